"""Every kind of image file gives the right picture, or an error that says why not."""

import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
import simplejpeg
from helpers.pictures import encode, photo, picture
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, TiffImagePlugin

from a2mim_mm.data import UnreadableImageError, decode_image, decoding

JPEG = dict(quality=97, subsampling=0)
RGB = picture()
ORIENTATION = 0x0112


def decode_rgb(data: bytes, **options) -> np.ndarray:
    """Decoded picture as RGB, after the checks that hold for all."""
    img = decode_image(data, **options)
    assert img.dtype == np.uint8 and img.ndim == 3 and img.shape[2] == 3 and img.flags.c_contiguous
    return img[:, :, ::-1]


def assert_close(actual: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    assert actual.shape == wanted.shape
    assert np.abs(actual.astype(int) - wanted).max() <= tolerance


# The right picture.


@pytest.mark.parametrize('fmt', ['PNG', 'BMP', 'TIFF', 'PPM'])
def test_lossless_rgb_is_exact(fmt):
    np.testing.assert_array_equal(decode_rgb(encode(RGB, fmt)), RGB)


@pytest.mark.parametrize(
    'fmt, options', [('JPEG', JPEG), ('JPEG', dict(JPEG, progressive=True)), ('WEBP', {})]
)
def test_lossy_rgb_is_close(fmt, options):
    assert_close(decode_rgb(encode(RGB, fmt, **options)), RGB, 4 if fmt == 'JPEG' else 12)


def test_jpeg_decodes_as_opencv_does():
    data = encode(photo(), 'JPEG', quality=85)
    wanted = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert_close(decode_image(data), wanted, 1)


@pytest.mark.parametrize('fmt, tolerance', [('JPEG', 2), ('PNG', 0), ('TIFF', 0)])
def test_grey_is_repeated(fmt, tolerance):
    grey = RGB[:, :, 0]
    options = dict(quality=97) if fmt == 'JPEG' else {}
    assert_close(decode_rgb(encode(grey, fmt, **options)), np.repeat(grey[:, :, None], 3, 2), tolerance)


def test_one_bit_and_palette():
    bits = np.indices((9, 11)).sum(0) % 2 * 255
    one_bit = Image.fromarray(bits.astype(np.uint8)).convert('1')
    np.testing.assert_array_equal(decode_rgb(encode(one_bit, 'PNG'))[:, :, 1], bits)
    palette = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3), 'P')
    colours = np.arange(18, dtype=np.uint8).reshape(6, 3) * 14
    palette.putpalette(colours.tobytes())
    np.testing.assert_array_equal(decode_rgb(encode(palette, 'PNG')), colours.reshape(2, 3, 3))


@pytest.mark.parametrize(
    'fmt, options', [('PNG', {}), ('WEBP', dict(lossless=True, exact=True)), ('TIFF', {})]
)
def test_transparent_parts_lie_over_white(fmt, options):
    alpha = np.linspace(0, 255, RGB.shape[1]).round().astype(np.uint8)[None, :].repeat(len(RGB), 0)
    share = alpha[:, :, None] / 255
    wanted = share * RGB + (1 - share) * 255
    assert_close(decode_rgb(encode(np.dstack([RGB, alpha]), fmt, **options)), wanted, 1)


def test_grey_with_alpha_and_transparent_colours():
    grey_alpha = np.zeros((4, 4, 2), np.uint8)
    grey_alpha[:2, :, 1] = 255
    over_white = decode_rgb(encode(Image.fromarray(grey_alpha, 'LA'), 'PNG'))
    assert (over_white[:2] == 0).all() and (over_white[2:] == 255).all()

    rgb = np.full((2, 2, 3), 10, np.uint8)
    rgb[0] = 20
    assert (decode_rgb(encode(rgb, 'PNG', transparency=(20, 20, 20)))[0] == 255).all()

    palette = Image.fromarray(np.array([[0, 1]], np.uint8), 'P')
    palette.putpalette([200, 0, 0, 0, 100, 0])
    for fmt in ('PNG', 'GIF'):
        np.testing.assert_array_equal(
            decode_rgb(encode(palette, fmt, transparency=0))[0], [[255, 255, 255], [0, 100, 0]]
        )


@pytest.mark.parametrize('extension', ['.png', '.tif', '.pgm'])
def test_16_bit_grey_is_scaled_not_clipped(extension):
    grey = np.linspace(0, 65535, 12 * 20).round().astype(np.uint16).reshape(12, 20)
    data = cv2.imencode(extension, grey)[1].tobytes()
    assert_close(decode_rgb(data)[:, :, 1], grey / 257, 1)


@pytest.mark.parametrize('extension', ['.png', '.tif'])
def test_16_bit_colour_is_scaled_not_clipped(extension):
    rgb = RGB.astype(np.uint16) * 257
    data = cv2.imencode(extension, rgb[:, :, ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode_rgb(data), RGB)


def test_16_bit_colour_with_alpha():
    bgra = np.dstack([RGB[:, :, ::-1], np.full(RGB.shape[:2], 128, np.uint8)]).astype(np.uint16) * 257
    data = cv2.imencode('.png', bgra)[1].tobytes()
    assert_close(decode_rgb(data), RGB * (128 / 255) + 127, 1)


@pytest.mark.parametrize('fmt', ['GIF', 'PNG', 'WEBP', 'TIFF'])
def test_an_animation_gives_its_first_frame(fmt):
    frames = [Image.new('RGB', (12, 10), colour) for colour in ('red', 'lime', 'blue')]
    options = dict(lossless=True) if fmt == 'WEBP' else {}
    data = encode(frames[0], fmt, save_all=True, append_images=frames[1:], **options)
    assert Image.open(BytesIO(data)).n_frames == 3
    np.testing.assert_array_equal(decode_rgb(data), np.full((10, 12, 3), (255, 0, 0), np.uint8))


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores: its row 0 and column 0 are the sides of the picture that EXIF names."""
    sides = {
        1: ('top', 'left'),
        2: ('top', 'right'),
        3: ('bottom', 'right'),
        4: ('bottom', 'left'),
        5: ('left', 'top'),
        6: ('right', 'top'),
        7: ('right', 'bottom'),
        8: ('left', 'bottom'),
    }
    row_0, column_0 = sides[orientation]
    if row_0 in ('bottom',) or column_0 in ('bottom',):
        upright = upright[::-1]
    if row_0 in ('right',) or column_0 in ('right',):
        upright = upright[:, ::-1]
    return upright.swapaxes(0, 1) if row_0 in ('left', 'right') else upright


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('fmt', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_exif_orientation_is_applied(fmt, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {'JPEG': JPEG, 'WEBP': dict(lossless=True)}.get(fmt, {})
    if fmt == 'TIFF':
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info[ORIENTATION] = orientation
        options = dict(tiffinfo=info)
    else:
        options = dict(options, exif=exif)
    data = encode(np.ascontiguousarray(stored(RGB, orientation)), fmt, **options)
    assert_close(decode_rgb(data), RGB, 4 if fmt == 'JPEG' else 0)


@pytest.mark.parametrize('orientation', [0, 9, 4711])
def test_meaningless_orientation_changes_nothing(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert_close(decode_rgb(encode(RGB, 'JPEG', exif=exif, **JPEG)), RGB, 4)


def test_broken_exif_does_not_cost_the_picture():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encode(RGB, 'JPEG', exif=exif, **JPEG)
    start = data.index(b'Exif\0\0') + 6
    broken = data[:start] + b'\xff' * 16 + data[start + 16 :]
    assert_close(decode_rgb(broken), RGB, 4)


def cmyk_photo() -> tuple[np.ndarray, np.ndarray]:
    """Amounts of ink, uint8 (H, W, 4), and the RGB picture they make on white paper."""
    ink = np.kron(np.random.default_rng(0).integers(0, 256, (4, 5, 4)), np.ones((16, 16, 1)))
    return ink.astype(np.uint8), (255 - ink[:, :, :3]) * (255 - ink[:, :, 3:]) / 255


def test_cmyk_jpeg_has_the_right_colours():
    ink, wanted = cmyk_photo()
    data = encode(Image.fromarray(ink, 'CMYK'), 'JPEG', quality=100, subsampling=0)
    assert b'Adobe' in data  # which means that the inks are stored inverted
    assert_close(decode_rgb(data), wanted, 4)


def test_ycck_jpeg_has_the_right_colours():
    ink, wanted = cmyk_photo()
    # In YCCK, YCC stands for an RGB that is 255 minus what CMYK would store. Adobe stores 255 minus the ink:
    # that RGB is the ink itself. Pillow inverts all four channels while writing, and calls them CMYK in the
    # last byte of Adobe's marker, where 2 means YCCK.
    ycc = np.asarray(Image.fromarray(ink[:, :, :3]).convert('YCbCr'))
    as_cmyk = Image.fromarray(np.dstack([255 - ycc, ink[:, :, 3]]), 'CMYK')
    data = bytearray(encode(as_cmyk, 'JPEG', quality=100, subsampling=0))
    data[data.index(b'Adobe') + 11] = 2
    assert simplejpeg.decode_jpeg_header(bytes(data))[2] == 'YCCK'
    assert_close(decode_rgb(bytes(data)), wanted, 6)


def test_cmyk_tiff_has_the_right_colours():
    ink, wanted = cmyk_photo()
    assert_close(decode_rgb(encode(Image.fromarray(ink, 'CMYK'), 'TIFF')), wanted, 1)


def test_jpeg_of_unusual_subsampling_is_read():
    data = bytearray(encode(photo(), 'JPEG', quality=90, subsampling=2))
    factors = data.index(b'\xff\xc0') + 11
    assert data[factors] == 0x22 and data[factors + 6] == 0x11
    # Blocks of 4 luma, 1 Cb and 1 Cr as before, but 4 x 1 of them.
    data[factors] = 0x14
    with pytest.raises(KeyError):
        simplejpeg.decode_jpeg_header(bytes(data))
    assert decode_image(bytes(data)).shape == (120, 160, 3)


def test_the_smallest_image():
    for fmt in ('PNG', 'JPEG', 'GIF'):
        assert decode_image(encode(np.zeros((1, 1, 3), np.uint8), fmt)).shape == (1, 1, 3)


# A clear error.


@pytest.mark.parametrize('fmt', ['JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM'])
@pytest.mark.parametrize('share', [0.02, 0.3, 0.6, 0.95])
def test_truncated_files_are_refused(fmt, share):
    data = encode(photo(), fmt)
    with pytest.raises(UnreadableImageError):
        decode_image(data[: int(share * len(data))])


@pytest.mark.parametrize('progressive', [False, True])
def test_truncated_jpeg_is_refused_wherever_it_ends(progressive):
    data = encode(photo(), 'JPEG', progressive=progressive)
    for end in range(3, len(data) - 2, 97):
        with pytest.raises(UnreadableImageError):
            decode_image(data[:end])


@pytest.mark.parametrize('progressive', [False, True])
def test_a_lost_block_in_the_middle_of_a_jpeg_is_refused(progressive):
    data = bytearray(encode(photo(240, 320), 'JPEG', quality=90, progressive=progressive))
    assert len(data) > 8000
    middle = len(data) // 2
    data[middle : middle + 1024] = bytes(1024)
    # That OpenCV decodes it is the reason for not using OpenCV.
    assert cv2.imdecode(np.frombuffer(bytes(data), np.uint8), cv2.IMREAD_COLOR) is not None
    with pytest.raises(UnreadableImageError, match='damaged or truncated file'):
        decode_image(bytes(data))


def test_damage_anywhere_in_the_pixels_of_a_png_is_refused():
    data = encode(photo(), 'PNG')
    start, end = data.index(b'IDAT') + 4, data.rindex(b'IEND') - 8
    for position in np.linspace(start, end - 1, 60).astype(int):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(UnreadableImageError, match='broken PNG file'):
            decode_image(bytes(damaged))


def test_jpeg_oddities_are_refused_unless_asked_for():
    data = encode(RGB, 'JPEG', **JPEG)
    superfluous = data[:-2] + b'\x12' * 40 + data[-2:]
    with pytest.raises(UnreadableImageError, match=r'extraneous bytes .*strict=False'):
        decode_image(superfluous)
    assert_close(decode_rgb(superfluous, strict=False), RGB, 4)


def test_not_strict_still_refuses_truncation():
    data = encode(photo(), 'JPEG')
    with pytest.raises(UnreadableImageError, match='Premature end'):
        decode_image(data[: len(data) // 2], strict=False)


def test_sound_jpeg_with_bytes_behind_its_end_is_read():
    data = encode(RGB, 'JPEG', **JPEG)
    assert_close(decode_rgb(data + b'the maker of the camera' * 99), RGB, 4)


@pytest.mark.parametrize(
    'data, reason',
    [
        (b'', 'empty'),
        (b'\0' * 4096, 'not a known image format'),
        (b'<html><body>404 Not Found</body></html>', r"begins with b'<html><b'"),
        (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n', 'not a known image format'),
        (b'\xff\xd8\xff', 'not a known image format|truncated|OSError|SyntaxError'),
        (b'\x89PNG\r\n\x1a\n', 'not a known image format|truncated|SyntaxError'),
    ],
)
def test_files_that_are_no_images(data, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        decode_image(data)


@pytest.mark.parametrize('dtype, mode', [(np.float32, 'F'), (np.int32, 'I')])
def test_values_without_a_range_are_refused(dtype, mode):
    data = encode(Image.fromarray(np.ones((4, 4), dtype)), 'TIFF')
    with pytest.raises(UnreadableImageError, match=f"mode '{mode}'.*8 or 16 bits"):
        decode_image(data)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'IDAT', zlib.compress(b''))
        + chunk(b'IEND', b'')
    )


def test_decompression_bombs_are_refused(monkeypatch):
    with pytest.raises(UnreadableImageError, match='bomb|more than the allowed'):
        decode_image(png_header(60000, 60000))
    monkeypatch.setattr(decoding, 'MAX_PIXELS', 40 * 56 - 1)
    for fmt in ('JPEG', 'PNG', 'GIF'):
        with pytest.raises(UnreadableImageError, match='56 x 40 pixels are more than the allowed 2239'):
            decode_image(encode(RGB, fmt))


# Whatever comes.


def is_picture_or_refused(data: bytes) -> None:
    try:
        img = decode_image(data)
    except UnreadableImageError as error:
        assert str(error)
    else:
        assert img.dtype == np.uint8 and img.ndim == 3 and img.shape[2] == 3 and img.flags.c_contiguous


SIGNATURES = [
    b'',
    b'\xff\xd8\xff',
    b'\x89PNG\r\n\x1a\n',
    b'GIF89a',
    b'BM',
    b'II*\0',
    b'MM\0*',
    b'RIFF',
    b'P6 ',
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SIGNATURES), st.binary(max_size=300))
@example(b'', b'')
def test_any_bytes_give_a_picture_or_the_one_error(signature, rest):
    is_picture_or_refused(signature + rest)


FILES = {
    fmt: encode(
        photo(32, 48), fmt, **({'exif': b'Exif\0\0MM\0*\0\0\0\x08\0\0'} if fmt in ('JPEG', 'PNG') else {})
    )
    for fmt in ('JPEG', 'PNG', 'GIF', 'WEBP', 'BMP', 'TIFF', 'PPM')
}


@pytest.mark.filterwarnings('ignore')
@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_any_damage_gives_a_picture_or_the_one_error(fmt, data):
    damaged = bytearray(FILES[fmt])
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.one_of(st.integers(0, 60), st.integers(0, len(damaged) - 1)))
        damaged[position] = data.draw(st.integers(0, 255))
    is_picture_or_refused(bytes(damaged))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(['PNG', 'BMP', 'TIFF', 'PPM']),
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
)
def test_lossless_formats_return_any_picture_unchanged(fmt, rgb):
    np.testing.assert_array_equal(decode_rgb(encode(rgb, fmt)), rgb)
