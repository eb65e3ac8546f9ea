"""Images of 10, 12 or 14 bits in files of 16: said, and scaled where that is asked for."""

import cv2
import numpy as np
import pytest

from a2mim_mm.data import LoadImage, UnreadableImageError, depth

KINDS = [('png', 1), ('png', 3), ('tiff', 1), ('tiff', 3), ('pgm', 1)]


def write(path, bits, channels, dtype=np.uint16):
    """A ramp over the whole range of ``bits``; returns its upper 8 bits."""
    ramp = np.linspace(0, 2**bits - 1, 20 * 30).reshape(20, 30, 1).repeat(channels, 2).astype(dtype)
    assert cv2.imwrite(str(path), ramp[:, :, 0] if channels == 1 else ramp)
    return (ramp >> (bits - 8)).astype(np.uint8)


@pytest.mark.parametrize('bits', [10, 12, 14, 16])
@pytest.mark.parametrize(('ending', 'channels'), KINDS)
def test_bits_scale_an_image_to_its_own_range(tmp_path, bits, ending, channels):
    path = tmp_path / f'a.{ending}'
    expected = write(path, bits, channels)
    image = LoadImage(bits=bits)(dict(img_path=str(path)))['img']
    assert image.dtype == np.uint8 and np.array_equal(image, np.broadcast_to(expected, (20, 30, 3)))


def test_images_of_8_bits_stay_as_they_are(tmp_path):
    write(tmp_path / 'a.png', 8, 3, np.uint8)
    assert np.array_equal(
        *(LoadImage(bits=b)(dict(img_path=str(tmp_path / 'a.png')))['img'] for b in (12, None))
    )


def test_values_beyond_the_bits_are_refused(tmp_path):
    write(tmp_path / 'a.png', 14, 1)
    with pytest.raises(UnreadableImageError, match='values up to 16383 do not fit into 12 bits'):
        LoadImage(bits=12)(dict(img_path=str(tmp_path / 'a.png')))
    for bits in (7, 17, 1.5):
        with pytest.raises(ValueError, match='bits must be in 8..16'):
            LoadImage(bits=bits)


@pytest.mark.parametrize(('ending', 'channels'), KINDS)
@pytest.mark.parametrize(('bits', 'said'), [(10, True), (12, True), (14, True), (16, False)])
def test_unused_bits_are_said(tmp_path, monkeypatch, ending, channels, bits, said):
    paths = [str(tmp_path / f'{number}.{ending}') for number in range(3)]
    for path in paths:
        write(path, bits, channels)
    messages = []
    monkeypatch.setattr(depth, 'print_log', lambda message, **_: messages.append(message))
    depth.warn_of_unused_bits(paths)
    assert len(messages) == said
    assert not said or f"dict(type='a2mim_mm.LoadImage', bits={bits})" in messages[0]
