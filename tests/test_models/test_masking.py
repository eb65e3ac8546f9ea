"""Where to hide: counts, uniformity, rectangles, D(M)."""

import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from helpers import reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from a2mim_mm.models.masking import (
    RandomPatchMask,
    RectangleMask,
    draw_scores,
    hidden_count,
    mask_grid,
    resize_mask,
)


def scores(batch, grid, seed=0):
    return draw_scores([(seed, sample) for sample in range(batch)], grid)


# ---- how many ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'ratio, n, k',
    # the product of the floats lies a little above (0.07 * 100), below or on the whole number
    [(0.07, 100, 7), (0.6, 5, 3), (0.6, 15, 9), (0.55, 100, 55), (0.29, 100, 29), (0.1, 30, 3), (0.6, 49, 30),
     (0.5, 49, 25), (0.01, 4, 1), (0.99, 4, 4), (1e-6, 100, 1)],
)  # fmt: skip
def test_hidden_count(ratio, n, k):
    assert hidden_count(ratio, n) == k


@given(st.integers(1, 999), st.integers(1, 2000))
@settings(deadline=None, max_examples=100)
def test_hidden_count_is_the_ceiling_of_the_decimal_product(thousandths, n):
    assert hidden_count(thousandths / 1000, n) == -(-thousandths * n // 1000)


@pytest.mark.parametrize('ratio', [0, 1, 0.0, 1.0, -0.1, 1.5, float('nan')])
@pytest.mark.parametrize('build', [RandomPatchMask, RectangleMask])
def test_ratio_outside_0_and_1_is_refused(build, ratio):
    with pytest.raises(ValueError, match=rf'ratio.*{ratio}'):
        build(ratio=ratio)
    with pytest.raises(ValueError, match=rf'ratio.*{ratio}'):
        hidden_count(ratio, 10)


@pytest.mark.parametrize('build', [RandomPatchMask, RectangleMask])
def test_arguments_are_checked(build):
    with pytest.raises(ValueError, match=r'patch_size.*0'):
        build(patch_size=0)
    with pytest.raises(TypeError, match='ration'):
        build(ration=0.6)


# ---- the grid ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'size, patch, grid', [((224, 224), 32, (7, 7)), ((128, 192), 32, (4, 6)), ((320, 64), 16, (20, 4))]
)
def test_mask_grid(size, patch, grid):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert mask_grid(size, patch) == grid


@pytest.mark.parametrize('size', [(225, 224), (224, 240), (16, 16)])
def test_a_patch_that_does_not_divide_is_named_with_the_input(size):
    with pytest.raises(ValueError, match=rf'(?s)(32.*{size[0]}.*{size[1]}|{size[0]}.*{size[1]}.*32)'):
        mask_grid(size, 32)


@pytest.mark.parametrize('size, words', [((64, 64), '2 x 2'), ((96, 256), '3 x 8'), ((256, 32), '8 x 1')])
def test_a_small_grid_warns(size, words):
    with pytest.warns(UserWarning, match=words):
        mask_grid(size, 32)


# ---- random patches ------------------------------------------------------------------------------


@given(
    grid=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    percent=st.integers(1, 99),
    batch=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=30)
def test_exactly_k_patches_are_hidden_those_of_lowest_score(grid, percent, batch, seed):
    draw = scores(batch, grid, seed)
    mask = RandomPatchMask(ratio=percent / 100)(draw)
    assert mask.shape == (batch, *grid)
    assert mask.dtype == torch.float32
    np.testing.assert_array_equal(mask.numpy(), reference.random_mask(draw.numpy(), percent / 100))
    assert (mask.sum((1, 2)) == hidden_count(percent / 100, grid[0] * grid[1])).all()


@pytest.mark.parametrize('values', [1, 2, 3])
def test_equal_scores_still_hide_exactly_k_and_always_the_same(values):
    draw = torch.randint(values, (16, 7, 5), generator=torch.Generator().manual_seed(0)).float()
    mask = RandomPatchMask(ratio=0.6)(draw)
    assert (mask.sum((1, 2)) == 21).all()
    np.testing.assert_array_equal(mask.numpy(), reference.random_mask(draw.numpy(), 0.6))


def test_every_patch_is_hidden_equally_often():
    batch, grid, ratio = 4000, (5, 6), 0.6
    mask = RandomPatchMask(ratio=ratio)(scores(batch, grid))
    # Each patch is hidden with probability 18 / 30. Under uniformity this is chi-square with 29 degrees of
    # freedom (the factor 29 / 30: a sample always hides 18), and 99.9 % of draws lie below 58.3.
    expected = batch * ratio
    statistic = ((mask.sum(0) - expected) ** 2).sum().item() / (expected * (1 - ratio)) * 29 / 30
    assert statistic < 58.3


def test_scores_are_uniform_and_independent():
    draw = scores(4000, (4, 6))
    assert draw.dtype == torch.float32 and draw.min() >= 0 and draw.max() < 1
    counts = torch.histc(draw, bins=10, min=0, max=1)
    assert (counts / draw.numel() - 0.1).abs().max() < 0.005
    # Neighbours on the grid, and the same patch of samples whose seeds follow each other.
    for one, other in ((draw[:, :, 1:], draw[:, :, :-1]), (draw[1:], draw[:-1])):
        correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
        assert abs(correlation) < 0.015


@pytest.mark.parametrize('build', [RandomPatchMask, RectangleMask])
def test_a_mask_follows_from_its_seed_and_nothing_else(build):
    seeds = [3, 2**32 - 1, (0, 5), 3]
    whole = build().draw(seeds, (224, 160))
    torch.manual_seed(1)
    np.random.seed(1)
    assert (
        whole.shape == (4, 7, 5) and torch.equal(whole[0], whole[3]) and not torch.equal(whole[0], whole[1])
    )
    assert torch.equal(torch.cat([build().draw([seed], (224, 160)) for seed in seeds]), whole)


def test_the_mask_of_a_seed_is_kept_over_versions():
    rows = [''.join(str(int(cell)) for cell in row) for row in RandomPatchMask().draw([0], (224, 224))[0]]
    assert rows == '1011101 0010110 1110000 0101110 1110111 1110011 0100111'.split()


@pytest.mark.parametrize('build', [RandomPatchMask, RectangleMask])
def test_a_mask_is_the_same_from_scores_in_lower_and_higher_precision(build):
    """As on other devices: sorting and multiplying do not round these scores."""
    draw = scores(64, (7, 7))
    assert torch.equal(build()(draw), build()(draw.double()))


# ---- rectangles ----------------------------------------------------------------------------------


def as_rectangle(mask_hw):
    """(top, left, height, width) of the hidden cells, which must be one full rectangle."""
    rows, cols = np.nonzero(mask_hw.any(1))[0], np.nonzero(mask_hw.any(0))[0]
    top, left, height, width = rows[0], cols[0], rows[-1] - rows[0] + 1, cols[-1] - cols[0] + 1
    assert mask_hw[top : top + height, left : left + width].all()
    assert mask_hw.sum() == height * width
    return int(top), int(left), int(height), int(width)


@given(
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    percent=st.integers(1, 99),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=30)
def test_hidden_cells_are_one_rectangle_of_the_nearest_area(grid, percent, seed):
    mask = RectangleMask(ratio=percent / 100)(scores(4, grid, seed))
    assert mask.shape == (4, *grid)
    k = reference.hidden_patches(percent / 100, grid[0] * grid[1])
    areas = reference.rectangle_areas(grid, k)
    for sample in mask.numpy():
        _, _, height, width = as_rectangle(sample.astype(bool))
        assert height * width in areas


@pytest.mark.parametrize('grid, ratio', [((4, 6), 0.5), ((5, 3), 0.3)], ids=str)
def test_all_rectangles_occur_about_equally_often(grid, ratio):
    batch = 3000
    mask = RectangleMask(ratio=ratio)(scores(batch, grid)).numpy().astype(bool)
    seen = Counter(as_rectangle(sample) for sample in mask)
    areas = reference.rectangle_areas(grid, reference.hidden_patches(ratio, grid[0] * grid[1]))
    every = set.union(*(reference.rectangles(grid, area) for area in areas))
    assert set(seen) == every
    share = batch / len(every)
    assert max(abs(count - share) for count in seen.values()) < 5 * share**0.5


@pytest.mark.parametrize('extreme', [0.0, 1 - 2**-24])
def test_extreme_scores_give_a_rectangle(extreme):
    mask = RectangleMask()(torch.full((1, 7, 7), extreme))
    _, _, height, width = as_rectangle(mask[0].numpy().astype(bool))
    assert height * width == 30


# ---- D(M) ----------------------------------------------------------------------------------------


@given(
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=40)
def test_resize_mask_shows_the_patch_that_holds_each_centre(grid, size, seed):
    # a centre exactly on a border belongs to either side, as rounding goes
    for n_in, n_out in zip(grid, size, strict=True):
        assume(all((2 * i + 1) * n_in % (2 * n_out) for i in range(n_out)))
    mask = RandomPatchMask(ratio=0.5)(scores(2, grid, seed))
    out = resize_mask(mask, size)
    assert out.shape == (2, *size)
    np.testing.assert_array_equal(out.numpy(), reference.resize_mask(mask.numpy(), size))
