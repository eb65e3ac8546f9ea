"""Multi-order interactions against closed forms and brute force, typed from Equations 1 and 2."""

from collections import Counter
from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from a2mim_mm.analysis.interaction import (
    Interactions,
    all_pairs,
    draw_contexts,
    image_interactions,
    make_plan,
    relative_strength,
)

seeds = st.integers(0, 10**6)


def exhaustive(grid, **kwargs):
    """A plan that takes all pairs and all contexts."""
    others = grid[0] * grid[1] - 2
    ratios = [m / others for m in range(others + 1)]
    return make_plan(grid, 1, 10**6, contexts=10**6, ratios=ratios, **kwargs)


def table_score(num_patches, seed):
    """A score that is a table over all subsets, and that table as a function of a set."""
    table = np.random.default_rng(seed).normal(size=2**num_patches)
    weights = 2 ** np.arange(num_patches)
    return (
        lambda kept: torch.from_numpy(table[(kept.numpy() * weights).sum(axis=1)]),
        lambda subset: table[sum(2**i for i in subset)],
    )


def brute_force(f, n, i, j, m):
    """Equation 1: the mean over all contexts, by loops over sets."""
    others = [k for k in range(n) if k not in (i, j)]
    values = [f({*s, i, j}) - f({*s, i}) - f({*s, j}) + f({*s}) for s in map(set, combinations(others, m))]
    return sum(values) / len(values)


@settings(max_examples=5, deadline=None)
@given(seeds)
def test_all_contexts_are_brute_force(seed):
    score, f = table_score(6, seed)
    plan = exhaustive((2, 3))
    found = image_interactions(score, plan, seed=seed, image=0, batch_size=36)
    assert plan.orders == (0, 1, 2, 3, 4)
    assert sorted(map(tuple, found.pairs_p2)) == list(combinations(range(6), 2))
    for (i, j), value_o in zip(found.pairs_p2, found.value_po, strict=True):
        expected = [brute_force(f, 6, i, j, m) for m in plan.orders]
        np.testing.assert_allclose(value_o, expected, rtol=1e-10, atol=1e-12)
    assert not found.error_po.any() and not found.noise_o.any()


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_patches_that_only_add_up_do_not_interact(seed):
    weights = torch.from_numpy(np.random.default_rng(seed).normal(size=30))
    plan = make_plan((5, 6), 1, 12, contexts=7)
    found = image_interactions(lambda kept: kept.double() @ weights + 3, plan, seed, image=0)
    np.testing.assert_allclose(found.value_po, 0, atol=1e-12)


def test_a_product_of_two_interacts_alike_at_all_orders():
    plan = make_plan((3, 4), 1, 10**6, contexts=6)
    found = image_interactions(lambda kept: 2.5 * (kept[:, 4] & kept[:, 9]).double(), plan, 0, 0)
    assert len(found.pairs_p2) == 66
    for pair, value_o in zip(found.pairs_p2.tolist(), found.value_po, strict=True):
        expected = 2.5 if pair == [4, 9] else 0
        np.testing.assert_allclose(value_o, expected, atol=1e-12)


@pytest.mark.parametrize('seed', range(5))
def test_a_product_of_three_needs_the_third_in_the_context(seed):
    plan = make_plan((4, 4), 1, 10**6, contexts=60)
    found = image_interactions(lambda kept: kept[:, [2, 7, 13]].all(dim=1).double(), plan, seed, 0)
    inside = [[2, 7], [2, 13], [7, 13]]
    for pair, value_o, error_o in zip(found.pairs_p2.tolist(), found.value_po, found.error_po, strict=True):
        expected_o = np.array(plan.orders) / 14 if pair in inside else np.zeros(len(plan.orders))
        exact = np.array([comb(14, m) for m in plan.orders]) <= 60
        np.testing.assert_allclose(value_o[exact], expected_o[exact], atol=1e-12)
        assert (abs(value_o - expected_o) <= 4.5 * error_o + 1e-12).all()
    errors = found.error_po[[found.pairs_p2.tolist().index(pair) for pair in inside]]
    assert (errors[:, 3:-3] > 0.02).all()


def test_the_standard_error_is_that_of_repetitions():
    score, f = table_score(10, seed=3)
    plan = make_plan((2, 5), 1, 1, contexts=30, ratios=[0.5], radius=None)
    values, errors = [], []
    for seed in range(400):
        found = image_interactions(score, plan, seed, image=0)
        truth = brute_force(f, 10, *found.pairs_p2[0].tolist(), 4)
        values.append(found.value_po[0, 0] - truth)
        errors.append(found.error_po[0, 0])
    spread = np.std(values)
    assert abs(np.mean(values)) < 4 * spread / 20
    # Of 70 contexts 30 are drawn: were they drawn with replacement, the error would be 1.32 times as large.
    assert np.mean(errors) == pytest.approx(spread, rel=0.12)


def test_orders_are_shares_of_what_is_left_of_the_patches():
    plan = make_plan((14, 14), 50, 200, contexts=100)
    assert plan.orders == (0, 10, 19, 39, 58, 78, 97, 116, 136, 155, 175, 184, 194)
    assert plan.contexts == (1, *[100] * 11, 1)
    assert plan.passes == 50 * 200 * 1102 * 4 == 44_080_000
    assert make_plan((2, 2), 1, 1, contexts=5).orders == (0, 1, 2)
    assert make_plan((2, 2), 1, 1, contexts=5).contexts == (1, 2, 1)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(2, 5), st.integers(2, 5)),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 20_000),
    st.sampled_from([None, 1, 2]),
)
def test_a_budget_buys_as_many_contexts_as_fit(grid, images, pairs, budget, radius):
    def passes(contexts):
        return make_plan(grid, images, pairs, contexts, radius=radius).passes

    if passes(2) > budget:
        with pytest.raises(ValueError, match='too small'):
            make_plan(grid, images, pairs, budget=budget, radius=radius)
        return
    plan = make_plan(grid, images, pairs, budget=budget, radius=radius)
    most = max(plan.contexts)
    assert plan.passes == passes(max(2, most)) <= budget
    there_are = [comb(grid[0] * grid[1] - 2, m) for m in plan.orders]
    assert list(plan.contexts) == [min(most, total) for total in there_are]
    assert passes(most + 1) > budget or passes(10**9) == plan.passes


@pytest.mark.parametrize(
    'arguments, words',
    [
        (dict(grid=(1, 2)), 'at least 3 patches'),
        (dict(num_images=0), 'at least 1 image'),
        (dict(num_pairs=0), 'at least 1 image'),
        (dict(contexts=1), 'at least 2'),
        (dict(budget=100), 'either'),
        (dict(contexts=None), 'either'),
        (dict(ratios=[]), 'shares in 0..1'),
        (dict(ratios=[0.5, 1.1]), 'shares in 0..1'),
        (dict(radius=0), 'radius must be at least 1'),
    ],
)
def test_plans_that_make_no_sense(arguments, words):
    with pytest.raises(ValueError, match=words):
        make_plan(**{**dict(grid=(3, 3), num_images=1, num_pairs=1, contexts=5), **arguments})


class Recorder:
    """A score that remembers what it was asked."""

    def __init__(self):
        self.batches = []

    def __call__(self, kept_kn):
        self.batches.append(kept_kn.clone())
        return kept_kn.double().sum(dim=1)


@pytest.mark.parametrize('batch_size', [1, 4, 10, 256])
def test_what_is_asked_is_what_was_planned(batch_size):
    plan, recorder = make_plan((4, 5), 1, 6, contexts=8, radius=2), Recorder()
    found = image_interactions(recorder, plan, seed=1, image=2, batch_size=batch_size)
    assert sum(map(len, recorder.batches)) == plan.passes
    contexts = []
    for batch in recorder.batches:
        assert len(batch) <= max(4, batch_size) and len(batch) % 4 == 0
        both, first, second, neither = batch.view(4, -1, 20)  # the four terms of a context share a batch
        assert torch.equal(both, first | second) and torch.equal(neither, first & second)
        parts = [part.numpy() for part in (first & ~second, second & ~first, neither)]
        contexts += zip(*parts, strict=True)
    for number, (i, j) in enumerate(found.pairs_p2):
        own = contexts[number * sum(plan.contexts) : (number + 1) * sum(plan.contexts)]
        assert all(np.flatnonzero(a) == [i] and np.flatnonzero(b) == [j] for a, b, _ in own)
        assert not any(s[i] or s[j] for _, _, s in own)
        sizes = Counter(int(s.sum()) for _, _, s in own)
        assert sizes == dict(zip(plan.orders, plan.contexts, strict=True))
        assert len({s.tobytes() for _, _, s in own}) == len(own)  # none twice


def test_draws_follow_from_seed_and_image():
    score, _ = table_score(12, seed=0)
    plan = make_plan((3, 4), 1, 4, contexts=5)

    def values(seed, image, batch_size=256):
        found = image_interactions(score, plan, seed, image, batch_size)
        return np.concatenate([found.pairs_p2.ravel(), found.value_po.ravel()])

    first = values(0, 0)
    assert np.array_equal(first, values(0, 0))
    np.testing.assert_allclose(first, values(0, 0, batch_size=8), rtol=1e-12)
    assert not np.array_equal(first, values(0, 1)) and not np.array_equal(first, values(1, 0))


# 35 contexts of 3 out of 7, of which all are listed; 1,716 of 6 out of 13, of which some are drawn.
@pytest.mark.parametrize('others, order, count, repeats', [(7, 3, 5, 1400), (13, 6, 20, 3000)])
def test_contexts_are_equally_likely(others, order, count, repeats):
    rng, found = np.random.default_rng(0), Counter()
    for _ in range(repeats):
        contexts = draw_contexts(rng, others, order, count)
        assert contexts.shape == (count, others) and (contexts.sum(axis=1) == order).all()
        drawn = [row.tobytes() for row in contexts]
        assert len({*drawn}) == count
        found.update(drawn)
    total = comb(others, order)
    assert len(found) == total
    expected = repeats * count / total
    chi_square = sum((times - expected) ** 2 / expected for times in found.values())
    assert abs(chi_square - total) < 5 * (2 * total) ** 0.5


def test_more_contexts_than_there_are():
    assert draw_contexts(np.random.default_rng(0), 4, 0, 1).tolist() == [[False] * 4]
    with pytest.raises(ValueError, match='only 6 contexts of 2 out of 4'):
        draw_contexts(np.random.default_rng(0), 4, 2, 7)


@pytest.mark.parametrize('radius', [1, 2, None])
def test_pairs_are_near_each_other(radius):
    pairs = all_pairs((4, 6), radius).tolist()
    expected = [
        [a, b]
        for a, b in combinations(range(24), 2)
        if radius is None or max(abs(a // 6 - b // 6), abs(a % 6 - b % 6)) <= radius
    ]
    assert pairs == expected


def test_pairs_are_drawn_from_all_without_replacement():
    found = Counter()
    plan = make_plan((3, 3), 1, 5, contexts=2, ratios=[0], radius=1)
    for image in range(600):
        pairs = image_interactions(Recorder(), plan, 0, image).pairs_p2
        assert len({*map(tuple, pairs)}) == 5
        found.update(map(tuple, pairs))
    expected = 600 * 5 / 20
    assert len(found) == 20 and max(abs(times - expected) for times in found.values()) < 5 * expected**0.5


def test_a_score_that_is_not_finite_is_refused():
    plan = make_plan((3, 3), 1, 1, contexts=2)
    with pytest.raises(ValueError, match='not finite'):
        image_interactions(lambda kept: kept.double().sum(1) / 0, plan, 0, 0)


def test_the_absolute_value_is_taken_after_the_mean_over_contexts():
    value_po = np.array([[1.0, -2.0], [-3.0, 1.0]])
    found = Interactions(np.array([[0, 1], [1, 2]]), value_po, np.array([[0.5, 0], [1.5, 0]]))
    assert found.strength_o.tolist() == [2.0, 1.5]
    np.testing.assert_allclose(found.noise_o, [np.sqrt(2 / np.pi), 0])


def test_noise_is_the_strength_of_what_does_not_interact():
    rng = np.random.default_rng(0)
    error_po = np.full((20_000, 3), 0.3)
    found = Interactions(np.zeros((20_000, 2)), rng.normal(0, error_po), error_po)
    np.testing.assert_allclose(found.strength_o, found.noise_o, rtol=0.02)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 30), st.integers(1, 13))
def test_relative_strength_averages_to_one(seed, images, orders):
    strength = np.random.default_rng(seed).gamma(2, size=(images, orders))
    found = relative_strength(strength, seed, resamples=200)
    assert found.mean.mean() == pytest.approx(1)
    np.testing.assert_allclose(found.mean, strength.sum(0) / strength.sum(0).mean())
    if images == 1 or orders == 1:
        np.testing.assert_allclose([found.low, found.high], [found.mean] * 2)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng, truth = np.random.default_rng(0), np.array([2.0, 1.0, 0.6, 0.4])
    covered = 0
    for seed in range(300):
        strength = rng.gamma(4, truth / 4, size=(40, 4))
        found = relative_strength(strength, seed, resamples=400)
        covered += (found.low <= truth) & (truth <= found.high)
    assert (covered > 0.88 * 300).all() and (covered < 0.99 * 300).all()


def test_an_additive_score_has_no_relative_strength():
    with pytest.raises(ValueError, match='no interactions'):
        relative_strength(np.zeros((3, 4)), 0)
