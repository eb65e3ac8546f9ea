"""From the bytes of an image file to the right picture, or to an error that says why not.

What is checked, and what cannot be: a truncated file is refused in every
format. PNG carries checksums, so any damage to its pixels is found. JPEG
carries none: damage is found where it leaves the stream inconsistent, which
nearly every lost block of 512 bytes or more does and a single flipped bit
mostly does not (JPEGs that libjpeg-turbo's simple interface does not take,
of unusual chroma subsampling, are checked for truncation only). Of the other
formats, too, damage is found only where it breaks the structure.
"""

from io import BytesIO

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError, features

from a2mim_mm.errors import InputError

MAX_PIXELS = 178_956_970
"""Largest image, height * width, that is decoded: where Pillow, too, suspects a decompression bomb."""

# Pillow could also start Ghostscript (EPS) or follow a vector format: a training set needs neither.
FORMATS = (
    *('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'DIB', 'TIFF', 'PPM'),
    *(('AVIF',) if features.check('avif') else ()),
    *(('JPEG2000',) if features.check('jpg_2000') else ()),
)

JPEG_SIGNATURE = b'\xff\xd8\xff'
PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
EXIF_ORIENTATION = 0x0112

# libjpeg's warnings that some cameras and programs provoke with a sound picture. Only the first warning of a
# file can be seen, and damaged data often shows as superfluous bytes, so they are refused unless asked for.
ODDITIES = (
    'extraneous bytes before marker',
    'Invalid SOS parameters',
    'unknown JFIF revision',
    'bad ICC marker',
    'Unknown Adobe color transform',
)


class UnreadableImageError(InputError):
    """The image cannot be read, or not without the risk of a wrong picture; the message is the reason."""


def decode_image(data: bytes, strict: bool = True) -> np.ndarray:
    """Decode an image file; its content decides the format, whatever it is called.

    The picture is what a viewer shows: upright (EXIF orientation applied),
    the first frame of an animation, transparent parts over white, CMYK (as
    Adobe stores it, inverted) and palettes converted, grey repeated in three
    channels, 16 bits a channel reduced to their upper 8.

    Args:
        data: Content of the file.
        strict: False accepts JPEGs with the ``ODDITIES`` that some cameras
            write, such as superfluous bytes before the end, at the price
            that damage behind the first oddity may go unseen.

    Returns:
        BGR image, uint8 (height, width, 3), contiguous.

    Raises:
        UnreadableImageError: If the file is empty, truncated, found to be
            damaged, of an unknown format, larger than ``MAX_PIXELS``, or
            holds values with no agreed range (float, 32 bits).
    """
    if not data:
        raise UnreadableImageError('the file is empty')
    if data[:3] == JPEG_SIGNATURE:
        img_hw3, orientation = _decode_jpeg(data, strict)
    else:
        img_hw3, orientation = _decode_by_pillow(data)
    return np.ascontiguousarray(_upright(img_hw3, orientation))


def _decode_jpeg(data: bytes, strict: bool) -> tuple[np.ndarray, int]:
    """BGR image and EXIF orientation of a JPEG, by libjpeg-turbo, which can be made to report damage."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, KeyError):
        # Unusual chroma subsampling, which is sound, or a broken header, of which Pillow says more.
        return _decode_by_pillow(data)
    _check_size(height, width)
    try:
        img_hw3 = simplejpeg.decode_jpeg(data, 'BGR')
    except ValueError as error:
        odd = any(oddity in str(error) for oddity in ODDITIES)
        if strict or not odd:
            hint = ' (LoadImage(strict=False) accepts such files)' if odd else ''
            raise UnreadableImageError(f'damaged or truncated file: {error}{hint}') from error
        img_hw3 = simplejpeg.decode_jpeg(data, 'BGR', strict=False)
    return img_hw3, _jpeg_orientation(data)


def _jpeg_orientation(data: bytes) -> int:
    """EXIF orientation; 1, upright, where the EXIF block itself is broken: the picture is not."""
    try:
        return Image.open(BytesIO(data), formats=('JPEG',)).getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # Pillow raises whatever its parser trips over
        return 1


def _decode_by_pillow(data: bytes) -> tuple[np.ndarray, int]:
    """BGR image and EXIF orientation of any other format."""
    try:
        if data[:8] == PNG_SIGNATURE:
            Image.open(BytesIO(data)).verify()  # of all checksums; loading skips those of the pixels
        image = Image.open(BytesIO(data), formats=FORMATS)
        _check_size(image.height, image.width)
        image.load()
        # Asked for after loading: TIFF turns the picture, and removes the tag, while loading.
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f'no known image format; the file begins with {data[:8]!r}') from error
    except Exception as error:  # Pillow raises whatever its parsers trip over
        raise UnreadableImageError(f'damaged or truncated file: {type(error).__name__}: {error}') from error
    return _to_rgb(image)[:, :, ::-1], orientation


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise UnreadableImageError(f'{width} x {height} pixels are more than the allowed {MAX_PIXELS}')


def _to_rgb(image: Image.Image) -> np.ndarray:
    """RGB, uint8 (H, W, 3), of a loaded image of any mode."""
    if image.mode.startswith('I;16') or (image.mode == 'I' and image.format == 'PPM'):
        grey_hw = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey_hw[:, :, None], 3, axis=2)
    if image.mode in ('I', 'F'):
        raise UnreadableImageError(
            f'pixels of Pillow mode {image.mode!r} (32-bit or signed integers, or floats) have no agreed '
            'range: convert the file to 8 or 16 bits'
        )
    try:
        if image.has_transparency_data:
            rgba = image.convert('RGBA')
            image = Image.alpha_composite(Image.new('RGBA', rgba.size, 'white'), rgba)
        return np.asarray(image.convert('RGB'))
    except ValueError as error:
        raise UnreadableImageError(str(error)) from error


def _upright(img_hw3: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the EXIF orientation; values that are not 1 to 8 mean nothing and change nothing."""
    if orientation in (5, 6, 7, 8):
        img_hw3 = img_hw3.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        img_hw3 = img_hw3[::-1]
    if orientation in (2, 3, 6, 7):
        img_hw3 = img_hw3[:, ::-1]
    return img_hw3
