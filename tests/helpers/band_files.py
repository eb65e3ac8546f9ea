"""Files of any number of channels, as they occur: .npy and TIFF, of 8 to 32 bits."""

from pathlib import Path

import numpy as np
import tifffile

HIGH = 10_000  # of the values of write_bands, as reflectances have them


def bands(channels: int, size: tuple[int, int] = (40, 56), seed: int = 0) -> np.ndarray:
    """A smooth image, uint16 (H, W, C) in 0..HIGH, whose channels differ."""
    rng = np.random.default_rng(seed)
    row, col = np.linspace(0, 1, size[0])[:, None, None], np.linspace(0, 1, size[1])[None, :, None]
    slopes = rng.random((3, channels))
    image = slopes[0] * row + slopes[1] * col + slopes[2]
    return (HIGH * image / 3).astype(np.uint16)


def write_bands(folder: Path, channels: int, count: int = 6, size: tuple[int, int] = (80, 100)) -> Path:
    """Write images of :func:`bands`, by turns .npy, channels last, and TIFF, channels first."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = bands(channels, size, seed=number)
        if number % 2:
            tifffile.imwrite(folder / f'{number}.tif', image.transpose(2, 0, 1), photometric='minisblack')
        else:
            np.save(folder / f'{number}.npy', image)
    return folder
