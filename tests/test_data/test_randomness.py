"""Randomness that follows from the sample's key, and leaves no trace."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from a2mim_mm.data import SampleKey, seeded

KEYS = st.builds(SampleKey, *[st.integers(0, 2**32 - 1)] * 3)


def draw() -> tuple:
    """Numbers from each of the three global generators."""
    return (
        random.random(),
        np.random.random(),
        np.random.normal(),
        torch.rand(1).item(),
        torch.randn(1).item(),
    )


def draw_with(key: SampleKey) -> tuple:
    with seeded(key):
        return draw()


@settings(max_examples=30, deadline=None)
@given(KEYS)
def test_a_key_always_gives_the_same_numbers(key):
    first = draw_with(key)
    draw()
    assert draw_with(key) == first


@settings(max_examples=30, deadline=None)
@given(KEYS, KEYS)
def test_other_keys_give_other_numbers_from_every_generator(key, other):
    if key != other:
        assert not set(draw_with(key)) & set(draw_with(other))


def test_neighbouring_keys_are_unrelated():
    # Sums or differences of seed, epoch and index must not count.
    keys = [SampleKey(*parts) for parts in np.ndindex(4, 4, 4)]
    numbers = np.array([draw_with(key) for key in keys])
    assert all(len(set(column)) == len(keys) for column in numbers.T)
    assert abs(np.corrcoef(numbers[:-1, 1], numbers[1:, 1])[0, 1]) < 0.4


def seed_all() -> None:
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    np.random.normal()  # leaves a second normal number waiting inside numpy's generator


def test_the_generators_go_on_as_if_nothing_had_happened():
    seed_all()
    wanted = draw()
    seed_all()
    with seeded(SampleKey(1, 2, 3)):
        draw()
    assert draw() == wanted


def test_the_generators_are_restored_after_an_error():
    seed_all()
    wanted = draw()
    seed_all()
    with pytest.raises(KeyError), seeded(SampleKey(1, 2, 3)):
        raise KeyError
    assert draw() == wanted
