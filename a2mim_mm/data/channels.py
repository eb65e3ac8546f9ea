"""Images that are not photos: any number of channels, 8, 16 or 32 bits, integers or floats."""

import math
import os
from collections.abc import Callable, Sequence
from io import BytesIO
from types import ModuleType

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from torch import Tensor

from a2mim_mm.errors import InputError
from a2mim_mm.libraries import optional_library
from a2mim_mm.registry import TRANSFORMS

from .decoding import JPEG_SIGNATURE, UnreadableImageError, decode_image
from .reading import cover, spread

EXTENSIONS = ('.npy', '.tif', '.tiff', '.dcm', '.png', '.jpg', '.jpeg')
_LOOKED_AT = 8
_NPY = b'\x93NUMPY'
_TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_INSTALL = '-r requirements/channels.txt'


class OtherChannelsError(UnreadableImageError):
    """The image has another number of channels."""


@TRANSFORMS.register_module()
class LoadChannels(BaseTransform):
    """Reads ``.npy``, TIFF, DICOM, PNG or JPEG. The content decides which, not the name.

    All values stay as they are, or are scaled linearly: none is clipped, none is cut to 8 bits. Channels keep
    the order of the file, which is RGB for photos. DICOM's rescale slope and intercept are applied.

    **Required keys:** ``img_path``.
    **Added keys:** ``img`` (float32 (H, W, C)), ``img_shape`` and ``ori_shape`` (H, W).

    Args:
        channels: Number of channels C. In ``.npy`` and TIFF they come first or last; 1 may be left out.
        value_range: What becomes 0 and 255, such as (0, 10000) for reflectances. None keeps the units of the
            file, in which mean and std are then.
        backend_args: Arguments of mmengine's file backend, which by default follows from the path.

    Raises:
        ValueError: If ``channels`` is not positive, or ``value_range`` is not two rising numbers.
    """

    def __init__(
        self,
        channels: int,
        value_range: Sequence[float] | None = None,
        backend_args: dict | None = None,
    ) -> None:
        if not isinstance(channels, int) or channels < 1:
            raise InputError(f'channels of LoadChannels must be a positive number, got {channels!r}')
        if value_range is not None and not _rises(value_range):
            raise InputError(
                f'value_range of LoadChannels must be two finite numbers, low and high, got {value_range!r}'
            )
        self.channels, self.value_range, self.backend_args = channels, value_range, backend_args

    def transform(self, results: dict) -> dict:
        """Add the image.

        Raises:
            UnreadableImageError: If the file cannot be read or decoded, or does not hold C channels of finite
                numbers.
            LibraryMissing: If it is TIFF or DICOM, and tifffile or pydicom is not installed.
        """
        try:
            data = bytes(fileio.get(results['img_path'], backend_args=self.backend_args))
        except OSError as error:
            raise UnreadableImageError(f'{type(error).__name__}: {error.strerror or error}') from error
        results['img'] = self.decode(data)
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

    def decode(self, data: bytes) -> np.ndarray:
        """The image in the content of a file, float32 (H, W, C); raises as :meth:`transform`."""
        return self.scale(_decode(data))

    def scale(self, image: np.ndarray) -> np.ndarray:
        """An image in the units of the files, of any type and layout that they have, as :meth:`decode`."""
        if image.dtype.kind not in 'uif':
            raise UnreadableImageError(f'values of type {image.dtype} are no pixels')
        img_hwc = _channels_last(image, self.channels)
        with np.errstate(over='ignore'):  # of float64 beyond float32: found below
            img_hwc = np.ascontiguousarray(img_hwc, np.float32)
        if not np.isfinite(img_hwc).all():
            raise UnreadableImageError('values are NaN or infinite')
        if self.value_range is None:
            return img_hwc
        low, high = self.value_range
        return (img_hwc - np.float32(low)) * np.float32(255 / (high - low))

    def __repr__(self) -> str:
        settings = f'channels={self.channels}, value_range={self.value_range}'
        return f'{type(self).__name__}({settings}, backend_args={self.backend_args})'


def find_loader(dataset: object) -> LoadChannels | None:
    """The :class:`LoadChannels` in the pipeline of a data set; None if there is none."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return next((step for step in steps if isinstance(step, LoadChannels)), None)


def read_channels(loader: LoadChannels, path: str | os.PathLike, size_hw: tuple[int, int]) -> Tensor:
    """An image at the input size of a network: scaled to cover it, then cropped at the centre.

    Returns:
        Image (C, H, W), float32, as the loader scales it.

    Raises:
        UnreadableImageError: If the loader refuses the file. Names it.
    """
    try:
        return cover(loader(dict(img_path=os.fspath(path)))['img'], size_hw)
    except UnreadableImageError as error:
        raise UnreadableImageError(f'{path}: {error}') from error


def check_files(dataset: object) -> None:
    """Check that files have the channels that the :class:`LoadChannels` of a data set expects, if it has one.

    A few files are read, evenly spread. What cannot be read at all is left to the training.

    Raises:
        ValueError: If one has other channels. Names it.
    """
    loader = find_loader(dataset)
    for index in spread(range(len(dataset)), _LOOKED_AT) if loader else ():
        path = dataset.get_data_info(index)['img_path']
        try:
            loader(dict(img_path=path))
        except OtherChannelsError as error:
            raise InputError(
                f'{path}: {error}: write the number that the files have as channels of LoadChannels and as '
                'in_channels of the backbone, or remove the file'
            ) from error
        except UnreadableImageError:
            continue


def _rises(value_range: Sequence[float]) -> bool:
    pair = isinstance(value_range, Sequence) and len(value_range) == 2
    return pair and all(map(math.isfinite, value_range)) and value_range[0] < value_range[1]


def _decode(data: bytes) -> np.ndarray:
    """What a file holds, in its own type and layout."""
    if not data:
        raise UnreadableImageError('the file is empty')
    read = _reader(data)
    try:
        return read(data)
    except InputError:
        raise
    except Exception as error:  # whatever the parsers trip over
        raise UnreadableImageError(f'damaged file: {type(error).__name__}: {error}') from error


def _reader(data: bytes) -> Callable[[bytes], np.ndarray]:
    """The function that decodes such a file."""
    if data.startswith(_NPY):
        return lambda data: np.load(BytesIO(data), allow_pickle=False)
    if data.startswith(_TIFF):
        tifffile = optional_library('tifffile', _INSTALL)
        return lambda data: tifffile.imread(BytesIO(data))
    if data[128:132] == b'DICM':
        pydicom = optional_library('pydicom', _INSTALL)
        return lambda data: _decode_dicom(pydicom, data)
    return _decode_picture


def _decode_dicom(pydicom: ModuleType, data: bytes) -> np.ndarray:
    from pydicom.pixels import apply_rescale

    dataset = pydicom.dcmread(BytesIO(data))
    return apply_rescale(dataset.pixel_array, dataset)


def _decode_picture(data: bytes) -> np.ndarray:
    """A grey image (H, W), RGB (H, W, 3) or RGBA (H, W, 4), of 8 or 16 bits."""
    img_hw3 = decode_image(data)  # which finds damage, where cv2 does not
    # JPEGs may be turned by EXIF, which cv2 undoes if nothing asks for them unchanged. They have no alpha.
    jpeg = data.startswith(JPEG_SIGNATURE)
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR if jpeg else cv2.IMREAD_UNCHANGED
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        return img_hw3[:, :, ::-1]
    return image if image.ndim == 2 else image[:, :, [2, 1, 0, 3][: image.shape[2]]]


def _channels_last(image: np.ndarray, channels: int) -> np.ndarray:
    """A view (H, W, C) of an image with its channels first or last, or of a single one (H, W)."""
    if image.ndim == 2 and image.size and channels == 1:
        return image[:, :, None]
    image = image[:, :, None] if image.ndim == 2 else image
    if image.ndim != 3 or not image.size:
        raise UnreadableImageError(f'an array {image.shape} is no image of {channels} channels')
    first, last = image.shape[0] == channels, image.shape[2] == channels
    if first and last:
        raise UnreadableImageError(f'in an array {image.shape} the channels may come first or last')
    if not first and not last:
        raise OtherChannelsError(f'an array {image.shape} does not have {channels} channels')
    return image.transpose(1, 2, 0) if first else image
