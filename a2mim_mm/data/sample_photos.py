"""Photos that come with scikit-image and scikit-learn, for a demonstration without a download."""

from pathlib import Path

import numpy as np
from PIL import Image

from a2mim_mm.files import write_whole

SHORT_SIDE = 256  # pixels

# In the wheel of scikit-image itself; its other pictures are fetched on demand.
SKIMAGE_PHOTOS = (
    'astronaut',
    'camera',
    'cat',
    'coffee',
    'coins',
    'hubble_deep_field',
    'immunohistochemistry',
    'retina',
    'rocket',
)


def export_sample_photos(folder: str | Path) -> list[Path]:
    """Write the photos as JPEG files with a short side of at most 256 pixels. Existing files are kept.

    Args:
        folder: Where the photos go; it is created if it is missing.

    Returns:
        Paths of the dozen photos.

    Raises:
        ImportError: If scikit-image or scikit-learn is not installed (``requirements/optional.txt``).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, load in _photos().items():
        path = folder / f'{name}.jpg'
        if not path.exists():
            photo = Image.fromarray(load())
            scale = max(1, min(photo.size) / SHORT_SIDE)
            photo = photo.resize([round(side / scale) for side in photo.size], Image.Resampling.LANCZOS)
            with write_whole(path) as draft:
                photo.save(draft, format='JPEG', quality=95)
        paths.append(path)
    return paths


def _photos() -> dict:
    from skimage import data
    from sklearn.datasets import load_sample_image

    photos = {name: getattr(data, name) for name in SKIMAGE_PHOTOS}
    photos['motorcycle'] = lambda: np.asarray(data.stereo_motorcycle()[0])
    photos['china'] = lambda: load_sample_image('china.jpg')
    photos['flower'] = lambda: load_sample_image('flower.jpg')
    return photos
