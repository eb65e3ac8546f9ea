"""Image files for a network in evaluation: listed, read, and brought to one size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def list_images(
    images: str | Path | Sequence[str | Path], extensions: Sequence[str] | None = None
) -> list[Path]:
    """The given image files and those below the given folders, in a fixed order.

    Args:
        images: A folder, a file or a list of both.
        extensions: Endings of the files to take from folders; None for those of photos.

    Raises:
        FileNotFoundError: If a path does not exist, a folder holds no image, or the list is empty.
    """
    from a2mim_mm.data import UnlabelledImages  # imports mmpretrain: not for every training of every library

    given = [Path(image) for image in ([images] if isinstance(images, (str, Path)) else images)]
    absent = [str(path) for path in given if not path.exists()]
    if absent or not given:
        raise FileNotFoundError(
            f'images must be folders or image files; not found: {", ".join(absent) or "any"}'
        )
    endings = {} if extensions is None else dict(extensions=extensions)
    paths = []
    for path in given:
        if path.is_dir():
            paths += [Path(info['img_path']) for info in UnlabelledImages(path, **endings).load_data_list()]
        else:
            paths.append(path)
    return paths


def spread(items: Sequence, count: int) -> list:
    """At most ``count`` of the items, evenly spread; the same ones each time."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def read_image(path: Path, size_hw: tuple[int, int]) -> Tensor:
    """An image file at the input size of a network: scaled to cover it, then cropped at the centre.

    Args:
        path: The file.
        size_hw: Height and width in pixels.

    Returns:
        RGB image (3, H, W), float in 0..1.

    Raises:
        UnreadableImageError: If the file cannot be decoded. Names it.
    """
    from a2mim_mm.data import UnreadableImageError, decode_image  # see list_images

    try:
        image = decode_image(Path(path).read_bytes())
    except UnreadableImageError as error:
        raise UnreadableImageError(f'{path}: {error}') from error
    return fit_image(image[:, :, ::-1], size_hw)


def fit_image(img_hw3: np.ndarray, size_hw: tuple[int, int]) -> Tensor:
    """RGB uint8 (H, W, 3), scaled to cover a size and cropped at the centre, as RGB (3, h, w) in 0..1."""
    return cover(img_hw3, size_hw).float() / 255


def cover(img_hwc: np.ndarray, size_hw: tuple[int, int]) -> Tensor:
    """An image, uint8 or float32 (H, W, C), scaled to cover a size and cropped at the centre: (C, h, w)."""
    from .resizing import resize  # see list_images

    height, width = size_hw
    image = img_hwc
    scale = max(height / image.shape[0], width / image.shape[1])
    resized_wh = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    image = resize(image, resized_wh[::-1])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    crop = image[top : top + height, left : left + width]
    return torch.from_numpy(crop.copy()).permute(2, 0, 1)
