"""Grids of pictures: every picture where its title says, at a readable size."""

import numpy as np
import pytest
import torch
from PIL import Image

from a2mim_mm.drawing import MIN_WIDTH, PADDING, TITLE_HEIGHT, draw_grid, to_rgb, write_png


@pytest.mark.parametrize('size_hw', [(64, 32), (40, 200)])
def test_every_cell_holds_its_picture(size_hw):
    generator = torch.Generator().manual_seed(0)
    pictures = {
        title: torch.rand(3, 3, *size_hw, generator=generator) for title in ('left', 'middle', 'right')
    }
    grid = draw_grid(pictures, caption='three rows', max_rows=2)
    zoom = -(-MIN_WIDTH // size_hw[1])
    height, width = size_hw[0] * zoom, size_hw[1] * zoom
    assert grid.shape == (2 * TITLE_HEIGHT + 2 * height + 3 * PADDING, 3 * width + 4 * PADDING, 3)
    for column, cells in enumerate(pictures.values()):
        for row in range(2):
            top = TITLE_HEIGHT + PADDING + row * (height + PADDING)
            left = PADDING + column * (width + PADDING)
            drawn = grid[top : top + height : zoom, left : left + width : zoom]
            assert np.abs(drawn / 255 - cells[row].permute(1, 2, 0).numpy()).max() <= 0.51 / 255


def test_columns_must_agree():
    with pytest.raises(ValueError, match=r'one shape.*\(1, 3, 8, 8\).*\(2, 3, 8, 8\)'):
        draw_grid(dict(one=torch.zeros(1, 3, 8, 8), two=torch.zeros(2, 3, 8, 8)))


def test_png_holds_the_picture_and_leaves_no_draft(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    write_png(tmp_path / 'new' / 'grid.png', picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'new' / 'grid.png')), picture)
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['grid.png']


def test_three_channels_are_drawn_in_a_stated_range():
    pictures = dict(a=torch.rand(2, 13, 4, 5) * 300 - 20)
    shown, text = to_rgb(pictures, (3, 2, 1), (0, 200))
    torch.testing.assert_close(shown['a'], (pictures['a'][:, [3, 2, 1]] / 200).clamp(0, 1))
    assert text == 'channels 3, 2, 1, black 0, white 200'
    assert torch.equal(
        to_rgb(pictures, value_range=(0, 200))[0]['a'], to_rgb(pictures, (0, 1, 2), (0, 200))[0]['a']
    )


@pytest.mark.parametrize('count', [1, 2, 13])
def test_one_channel_is_grey(count):
    image = torch.rand(2, count, 4, 5)
    shown, text = to_rgb(dict(a=image), channels=[0], value_range=(0, 1))
    assert torch.equal(shown['a'], image[:, :1].expand(-1, 3, -1, -1)) and text.startswith('channel 0,')


def test_the_range_is_that_of_the_first_column():
    first, second = torch.linspace(10, 20, 101).view(1, 1, 1, 101), torch.full((1, 1, 1, 101), 15.0)
    shown, text = to_rgb(dict(a=first, b=second))
    assert text == 'channel 0, black 10.1, white 19.9'
    torch.testing.assert_close(shown['b'], torch.full((1, 3, 1, 101), 0.5))
    assert torch.equal(to_rgb(dict(a=second))[0]['a'], torch.zeros(1, 3, 1, 101))


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(channels=(0, 1)), r'one or three of 0\.\.3'),
        (dict(channels=(0, 1, 4)), r'one or three of 0\.\.3'),
        (dict(channels=(-1,)), r'one or three of 0\.\.3'),
        (dict(value_range=(1, 1)), 'two rising numbers'),
    ],
)
def test_what_cannot_be_shown(options, words):
    with pytest.raises(ValueError, match=words):
        to_rgb(dict(a=torch.rand(1, 4, 2, 2)), **options)
