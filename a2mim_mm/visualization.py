"""Pictures for the eye: reading images, drawing grids (a row an image, a column a kind), writing them."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

PADDING = 2  # pixels between pictures
TITLE_HEIGHT = 22  # pixels a line of text takes
MIN_WIDTH = 128  # pixels; smaller pictures are enlarged by a whole number
INK = (30, 30, 30)


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
        raise ValueError(f'pictures must be columns of one shape, got {sorted(shapes)}')
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


def list_images(images: str | Path | Sequence[str | Path]) -> list[Path]:
    """The given image files, and those below the given folders, in a fixed order.

    Args:
        images: A folder, a file or a list of both.

    Raises:
        FileNotFoundError: If one does not exist, a folder holds no image, or the list is empty.
    """
    from a2mim_mm.data import UnlabelledImages  # imports mmpretrain: not for every training of every library

    given = [Path(image) for image in ([images] if isinstance(images, (str, Path)) else images)]
    absent = [str(path) for path in given if not path.exists()]
    if absent or not given:
        raise FileNotFoundError(
            f'images must be folders or image files; not found: {", ".join(absent) or "any"}'
        )
    paths = []
    for path in given:
        if path.is_dir():
            paths += [Path(info['img_path']) for info in UnlabelledImages(path).load_data_list()]
        else:
            paths.append(path)
    return paths


def spread(items: Sequence, count: int) -> list:
    """At most ``count`` of the items, evenly spread, the same ones each time."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def training_size(pipeline: Sequence[dict]) -> tuple[int, int] | None:
    """Height and width of the crop of a training pipeline; None if it has no RandomResizedCrop."""
    for step in pipeline:
        if step['type'].endswith('RandomResizedCrop'):
            scale = step['scale']
            return (scale, scale) if isinstance(scale, int) else tuple(scale[::-1])
    return None


def read_image(path: Path, size_hw: tuple[int, int]) -> Tensor:
    """An image file as the network's input size: scaled to cover it, then cropped at the centre.

    Args:
        path: The file.
        size_hw: Height and width in pixels.

    Returns:
        RGB image (3, H, W), float in 0..1.

    Raises:
        UnreadableImageError: If it cannot be decoded; names the file.
    """
    from a2mim_mm.data import UnreadableImageError, decode_image  # see list_images

    try:
        image = decode_image(Path(path).read_bytes())
    except UnreadableImageError as error:
        raise UnreadableImageError(f'{path}: {error}') from error
    return fit_image(image[:, :, ::-1], size_hw)


def fit_image(img_hw3: np.ndarray, size_hw: tuple[int, int]) -> Tensor:
    """RGB uint8 (H, W, 3), scaled to cover a size and cropped at the centre, as RGB (3, h, w) in 0..1."""
    from a2mim_mm.data.resizing import resize  # see list_images

    height, width = size_hw
    image = img_hw3
    scale = max(height / image.shape[0], width / image.shape[1])
    resized_wh = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    image = resize(image, resized_wh[::-1])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    crop = image[top : top + height, left : left + width]
    return torch.from_numpy(crop.copy()).permute(2, 0, 1).float() / 255


def write_png(path: Path, image_rgb: np.ndarray) -> None:
    """Write a picture so that a reader never sees half of it.

    Args:
        path: Where to; folders are created.
        image_rgb: uint8 (height, width, 3).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f'.{path.name}.part')
    draft.write_bytes(cv2.imencode('.png', image_rgb[..., ::-1])[1].tobytes())
    draft.replace(path)
