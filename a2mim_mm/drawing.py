"""Grids of pictures for the eye: a row an image, a column a kind."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

from a2mim_mm.errors import InputError
from a2mim_mm.files import write_whole

PADDING = 2  # pixels between pictures
TITLE_HEIGHT = 22  # pixels a line of text takes
MIN_WIDTH = 128  # pixels; smaller pictures are enlarged by a whole number
INK = (30, 30, 30)


def to_rgb(
    pictures: dict[str, Tensor],
    channels: Sequence[int] | None = None,
    value_range: tuple[float, float] | None = None,
) -> tuple[dict[str, Tensor], str]:
    """Show one or three channels of pictures that are not photos.

    Args:
        pictures: Title of a column to its pictures (B, C, H, W), in any units.
        channels: The channels, counted from 0, that become red, green and blue; one is drawn grey. The
            default is the first three, or the first where there are fewer.
        value_range: What becomes black and white. The default is that 1 % of the first column's values lie
            below and 1 % above.

    Returns:
        RGB pictures (B, 3, H, W) in 0..1, and what they show, as text.

    Raises:
        ValueError: If there are no such channels, or the range does not rise.
    """
    first = next(iter(pictures.values()))
    count = first.shape[1]
    channels = [0, 1, 2] if channels is None and count >= 3 else [*(channels or [0])]
    if len(channels) not in (1, 3) or not all(channel in range(count) for channel in channels):
        raise InputError(f'channels must be one or three of 0..{count - 1}, got {channels}')
    if value_range is None:
        value_range = np.percentile(first[:, channels].cpu().numpy(), (1, 99)).tolist()
        value_range[1] += value_range[0] == value_range[1]  # of an even picture
    low, high = value_range
    if not low < high:
        raise InputError(f'value_range must be two rising numbers, got {low} and {high}')
    shown = {
        title: ((column[:, channels] - low) / (high - low)).clamp(0, 1).expand(-1, 3, -1, -1)
        for title, column in pictures.items()
    }
    names = ', '.join(map(str, channels))
    return shown, f'channel{"s" * (len(channels) > 1)} {names}, black {low:.4g}, white {high:.4g}'


def draw_grid(pictures: dict[str, Tensor], caption: str = '', max_rows: int = 8) -> np.ndarray:
    """Draw pictures side by side.

    Args:
        pictures: Title of a column to its RGB pictures (B, 3, H, W) in 0..1; all columns of one shape.
        caption: A line below the grid.
        max_rows: Number of images to draw at most.

    Returns:
        RGB picture, uint8 (height, width, 3).

    Raises:
        ValueError: If the columns differ in shape, or there is none.
    """
    shapes = {tuple(column.shape) for column in pictures.values()}
    if len(shapes) != 1:
        raise InputError(f'pictures must be columns of one shape, got {sorted(shapes)}')
    cells = torch.stack([column[:max_rows].float().cpu() for column in pictures.values()], dim=1).flatten(
        0, 1
    )
    zoom = -(-MIN_WIDTH // cells.shape[-1])
    cells = cells.repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3)
    grid = make_grid(cells.clamp(0, 1), nrow=len(pictures), padding=PADDING, pad_value=1.0)
    tiles = Image.fromarray((grid * 255).round().byte().permute(1, 2, 0).numpy())

    canvas = Image.new('RGB', (tiles.width, tiles.height + TITLE_HEIGHT * (1 + bool(caption))), 'white')
    canvas.paste(tiles, (0, TITLE_HEIGHT))
    draw = ImageDraw.Draw(canvas)
    step = cells.shape[-1] + PADDING
    for column, title in enumerate(pictures):
        _write(
            draw, title, PADDING + column * step + cells.shape[-1] // 2, TITLE_HEIGHT // 2, cells.shape[-1]
        )
    if caption:
        _write(
            draw, caption, canvas.width // 2, canvas.height - TITLE_HEIGHT // 2, canvas.width - 2 * PADDING
        )
    return np.asarray(canvas)


def _write(draw: ImageDraw.ImageDraw, text: str, x: int, y: int, width: int) -> None:
    """Centre a line of text at (x, y), in the largest size up to 14 px that fits the width."""
    for size in range(14, 6, -1):
        font = ImageFont.load_default(size)
        if draw.textlength(text, font=font) <= width:
            break
    draw.text((x, y), text, fill=INK, font=font, anchor='mm')


def write_png(path: Path, image_rgb: np.ndarray) -> None:
    """Write a picture whole.

    Args:
        path: Where to; folders are created.
        image_rgb: uint8 (height, width, 3).
    """
    with write_whole(path) as draft:
        draft.write_bytes(cv2.imencode('.png', image_rgb[..., ::-1])[1].tobytes())
