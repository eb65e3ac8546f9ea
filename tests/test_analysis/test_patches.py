"""Hidden patches, their colour, and the score of a class."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from a2mim_mm.analysis.patches import FILLS, fill_colour, hide_patches, log_odds

BLACK = torch.tensor([-2.0, -1.5, -1.0])


def test_colours():
    images = torch.rand(4, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    assert fill_colour('black', images, BLACK).flatten().tolist() == BLACK.tolist()
    assert fill_colour('zero', images, BLACK).flatten().tolist() == [0, 0, 0]
    mean = images.numpy().sum(axis=(2, 3)) / 30
    np.testing.assert_allclose(fill_colour('mean', images, BLACK)[..., 0, 0], mean, rtol=1e-5)
    with pytest.raises(ValueError, match='black, zero, mean'):
        fill_colour('white', images, BLACK)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(5, 17), st.integers(5, 17)),
    st.sampled_from(FILLS),
)
def test_hidden_patches_and_nothing_else(seed, grid, size, fill):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.normal(size=(3, 3, *size)))
    hidden = torch.from_numpy(rng.random((3, grid[0] * grid[1])) < 0.5)
    colour = fill_colour(fill, images, BLACK.double())
    result = hide_patches(images, hidden, grid, colour)
    for b, y, x in np.ndindex(3, *size):
        # The patch that holds the centre of the pixel.
        row, column = int((y + 0.5) * grid[0] / size[0]), int((x + 0.5) * grid[1] / size[1])
        expected = (
            colour.expand(3, 3, 1, 1)[b, :, 0, 0] if hidden[b, row * grid[1] + column] else images[b, :, y, x]
        )
        assert torch.equal(result[b, :, y, x], expected)


def test_one_image_under_many_masks():
    image = torch.rand(1, 3, 4, 4)
    hidden = torch.eye(4).bool()
    result = hide_patches(image, hidden, (2, 2), torch.tensor([9.0, 9, 9])[:, None, None])
    assert result.shape == (4, 3, 4, 4)
    for index, (top, left) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
        assert (result[index] == 9).sum() == 12
        assert (result[index, :, top : top + 2, left : left + 2] == 9).all()


def test_a_grid_finer_than_the_image():
    with pytest.raises(ValueError, match=r'grid of \(5, 4\) patches is finer than images of \(4, 4\)'):
        hide_patches(torch.rand(1, 3, 4, 4), torch.zeros(1, 20).bool(), (5, 4), BLACK[:, None, None])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.floats(0.1, 8))
def test_log_odds_of_moderate_logits(seed, classes, scale):
    logits = np.random.default_rng(seed).normal(scale=scale, size=(6, classes))
    labels = np.random.default_rng(seed).integers(classes, size=6)
    odds = np.exp(logits)
    p, odds[range(6), labels] = odds[range(6), labels].copy(), 0
    rest = odds.sum(axis=1)  # not 1 - p, which loses its digits where p is nearly 1
    result = log_odds(torch.from_numpy(logits), torch.from_numpy(labels))
    np.testing.assert_allclose(result, np.log(p / rest), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_log_odds_where_the_probability_rounds_to_0_or_1(dtype):
    logits = torch.tensor([[10_240.0, 0, 0], [-10_240, 0, 0], [0, 10_240, -10_240]], dtype=dtype)
    result = log_odds(logits, torch.tensor([0, 0, 2]))
    assert result.dtype == torch.float64
    np.testing.assert_allclose(result, [10_240 - np.log(2), -10_240 - np.log(2), -20_480])
    assert log_odds(torch.tensor([[3.0, 1.0]]), torch.tensor([1])).item() == pytest.approx(-2)


@pytest.mark.parametrize('shape', [(4, 1), (4,), (4, 8, 2, 2)])
def test_log_odds_need_classes(shape):
    with pytest.raises(ValueError, match='must end in a classifier'):
        log_odds(torch.zeros(shape), torch.zeros(4, dtype=torch.long))
