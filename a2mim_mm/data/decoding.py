"""Decodes an image file to the right picture, or says why it cannot.

What is found, and what is not:

- A truncated file is refused in every format.
- PNG carries checksums, so any damage is found.
- JPEG carries none. Damage is found if it makes the stream inconsistent. Nearly every lost block of 512 bytes
  or more does that; most single flipped bits do not. JPEGs with unusual chroma subsampling, which
  libjpeg-turbo's simple interface does not take, are checked for truncation only.
- In the other formats damage is found if it breaks the structure.
"""

from io import BytesIO

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError, features

from a2mim_mm.errors import InputError

MAX_PIXELS = 178_956_970
"""Largest image, height * width, that is decoded: where Pillow, too, suspects a decompression bomb."""

# Pillow could also start Ghostscript (EPS) or follow a vector format. A training set needs neither.
FORMATS = (
    *('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'DIB', 'TIFF', 'PPM'),
    *(('AVIF',) if features.check('avif') else ()),
    *(('JPEG2000',) if features.check('jpg_2000') else ()),
)

JPEG_SIGNATURE = b'\xff\xd8\xff'
PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
EXIF_ORIENTATION = 0x0112

# Warnings of libjpeg that some cameras and programs cause with a sound picture. libjpeg shows only the first
# warning of a file, and damage often shows as superfluous bytes, so these files are refused unless asked for.
ODDITIES = (
    'extraneous bytes before marker',
    'Invalid SOS parameters',
    'unknown JFIF revision',
    'bad ICC marker',
    'Unknown Adobe color transform',
)


class UnreadableImageError(InputError):
    """The image cannot be read, or might be read wrongly. The message is the reason."""


def decode_image(data: bytes, strict: bool = True) -> np.ndarray:
    """Decode an image file. Its content decides the format, not its name.

    The picture is what a viewer shows: upright (EXIF orientation applied), the first frame of an animation,
    transparent parts over white, CMYK (as Adobe stores it, inverted) and palettes converted, grey repeated in
    three channels, 16 bits a channel reduced to their upper 8.

    Args:
        data: Content of the file.
        strict: False accepts JPEGs with the ``ODDITIES`` that some cameras write, such as superfluous bytes
            before the end. Damage behind the first oddity may then go unseen.

    Returns:
        BGR image, uint8 (height, width, 3), contiguous.

    Raises:
        UnreadableImageError: If the file is empty, truncated, visibly damaged, of an unknown format, larger
            than ``MAX_PIXELS``, or holds values without an agreed range (float, 32 bits).
    """
    if not data:
        raise UnreadableImageError('the file is empty')
    if data[:3] == JPEG_SIGNATURE:
        img_hw3, orientation = _decode_jpeg(data, strict)
    else:
        img_hw3, orientation = _decode_by_pillow(data)
    return np.ascontiguousarray(_upright(img_hw3, orientation))


def _decode_jpeg(data: bytes, strict: bool) -> tuple[np.ndarray, int]:
    """BGR image and EXIF orientation of a JPEG. libjpeg-turbo can report damage, and here it does."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, KeyError):
        # Unusual chroma subsampling, which is sound, or a broken header. Pillow says more about either.
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
    """EXIF orientation; 1, upright, if only the EXIF block is broken and not the picture."""
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
        # Asked for after loading: while loading, TIFF turns the picture and removes the tag.
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f'not a known image format; the file begins with {data[:8]!r}') from error
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
    """Undo the EXIF orientation; values other than 1 to 8 mean nothing and change nothing."""
    if orientation in (5, 6, 7, 8):
        img_hw3 = img_hw3.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        img_hw3 = img_hw3[::-1]
    if orientation in (2, 3, 6, 7):
        img_hw3 = img_hw3[:, ::-1]
    return img_hw3
