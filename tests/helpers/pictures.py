"""Known pictures, and the ways to store them."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image


def picture(height: int = 40, width: int = 56) -> np.ndarray:
    """A smooth RGB picture, uint8 (height, width, 3), unlike all its turns, mirrors and channel swaps."""
    row = np.linspace(0, 1, height)[:, None]
    col = np.linspace(0, 1, width)[None, :]
    channels = [40 + 200 * col + 0 * row, 230 - 180 * row + 0 * col, 30 + 150 * row * col]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def photo(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    """A picture with some detail everywhere, as a photo has, uint8 RGB."""
    noise = np.random.default_rng(seed).integers(0, 60, (height // 4, width // 4, 3)).astype(np.uint8)
    return picture(height, width) // 2 + np.kron(noise, np.ones((4, 4, 1), np.uint8))


def encode(image: np.ndarray | Image.Image, fmt: str, **options) -> bytes:
    """The file's content, as Pillow writes it."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    buffer = BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def write_photos(folder: Path, count: int, size: tuple[int, int] = (80, 100)) -> list[Path]:
    """Write ``count`` different JPEG photos of (height, width) ``size`` into a folder, sorted by name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f'{number:04d}.jpg' for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(encode(photo(*size, seed=number), 'JPEG', quality=90))
    return paths
