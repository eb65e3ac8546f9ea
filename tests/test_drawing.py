"""Grids of pictures: every picture where its title says, at a readable size."""

import numpy as np
import pytest
import torch
from PIL import Image

from a2mim_mm.drawing import MIN_WIDTH, PADDING, TITLE_HEIGHT, draw_grid, write_png


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
