"""Randomness that belongs to the sample.

Crop, flip and mask of a sample follow from (seed, epoch, index) alone, so
that they are the same with any number of workers and ranks, and after a
restart.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch


class SampleKey(NamedTuple):
    """What the randomness of a sample follows from.

    Attributes:
        seed: Seed of the run, not negative.
        epoch: Epoch, from 0.
        index: Index of the sample in the data set, not negative.
    """

    seed: int
    epoch: int
    index: int


@contextmanager
def seeded(key: SampleKey) -> Iterator[None]:
    """Seed the global CPU generators of ``random``, numpy and torch from a key; restore them afterwards.

    Transforms of mmcv and mmpretrain draw from these. Generators of
    accelerators are left alone.
    """
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    # SeedSequence keeps neighbouring keys from giving related streams, which their sum would not.
    words = np.random.SeedSequence(key).generate_state(3, np.uint32)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])
