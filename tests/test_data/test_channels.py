"""LoadChannels: every value of every channel arrives, or the file is refused."""

import sys
from io import BytesIO

import cv2
import numpy as np
import pytest
import tifffile
from helpers.band_files import HIGH, bands
from helpers.pictures import encode, picture
from mmcv.transforms import RandomFlip
from mmengine.registry import init_default_scope
from PIL import Image

from a2mim_mm.data import LoadChannels, MaskSeed, RandomResizedCrop, UnreadableImageError
from a2mim_mm.data.channels import check_files
from a2mim_mm.data.resizing import resize
from a2mim_mm.errors import InputError
from a2mim_mm.libraries import LibraryMissing
from a2mim_mm.registry import TRANSFORMS


def npy(image):
    file = BytesIO()
    np.save(file, image)
    return file.getvalue()


def tiff(image, **options):
    file = BytesIO()
    tifffile.imwrite(file, image, photometric='minisblack', **options)
    return file.getvalue()


def png(image):
    return cv2.imencode('.png', image)[1].tobytes()


@pytest.mark.parametrize('write', [npy, tiff], ids=['npy', 'tiff'])
@pytest.mark.parametrize('dtype', ['uint8', 'int16', 'uint16', 'uint32', 'float32'])
@pytest.mark.parametrize('channels', [1, 4, 13])
def test_values_stay_as_they_are(write, dtype, channels):
    image = (bands(channels) // (40 if dtype == 'uint8' else 1)).astype(dtype)
    for stored in (image, image.transpose(2, 0, 1), *([image[:, :, 0]] if channels == 1 else [])):
        found = LoadChannels(channels).decode(write(stored))
        assert found.dtype == np.float32 and found.flags.c_contiguous
        np.testing.assert_array_equal(found, image.astype(np.float32))


def test_a_range_becomes_0_to_255_and_nothing_is_clipped():
    image = np.array([[-100, 0, HIGH, 2 * HIGH]], np.int16)
    found = LoadChannels(1, value_range=(0, HIGH)).decode(npy(image))
    np.testing.assert_allclose(found[0, :, 0], [-2.55, 0, 255, 510], rtol=1e-6)


def test_a_range_of_8_bits_changes_nothing():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(LoadChannels(1, (0, 255)).decode(npy(image))[:, :, 0], image)


@pytest.mark.parametrize('fmt', ['PNG', 'BMP', 'WEBP'])
def test_photos_are_rgb(fmt):
    options = dict(lossless=True) if fmt == 'WEBP' else {}
    found = LoadChannels(3).decode(encode(picture(), fmt, **options))
    np.testing.assert_array_equal(found, picture())


def test_pictures_of_16_bits_grey_and_with_alpha():
    deep = bands(3)
    np.testing.assert_array_equal(LoadChannels(3).decode(png(deep[:, :, ::-1])), deep)
    np.testing.assert_array_equal(LoadChannels(1).decode(png(deep[:, :, 0]))[:, :, 0], deep[:, :, 0])
    rgba = np.dstack([picture(), picture()[:, :, 0]])
    np.testing.assert_array_equal(LoadChannels(4).decode(encode(rgba, 'PNG')), rgba)


def test_a_jpeg_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(picture()[:, :, 0], 'JPEG', quality=100, exif=exif)
    found = LoadChannels(1).decode(data)[:, :, 0]
    expected = np.rot90(picture()[:, :, 0], -1)
    assert np.abs(found - expected).max() < 6


def test_dicom_is_rescaled(tmp_path):
    pydicom = pytest.importorskip('pydicom')
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = '1.2.3'
    image = bands(1)[:, :, 0]
    dataset.Rows, dataset.Columns = image.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, 'MONOCHROME2'
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1024
    dataset.PixelData = image.tobytes()
    pydicom.dcmwrite(tmp_path / 'a.dcm', dataset, enforce_file_format=True)
    found = LoadChannels(1)(dict(img_path=str(tmp_path / 'a.dcm')))['img']
    np.testing.assert_array_equal(found[:, :, 0], 2 * image.astype(np.float32) - 1024)


SPOILT = bands(4).astype(np.float32)
SPOILT[3, 4, 1] = np.nan
PICKLED = BytesIO()
np.save(PICKLED, np.array([{}], object), allow_pickle=True)


@pytest.mark.parametrize(
    'data, reason',
    [
        (b'', 'empty'),
        (npy(SPOILT), 'NaN or infinite'),
        (npy(np.full((2, 3, 4), 1e300)), 'NaN or infinite'),
        (npy(bands(5)), r'\(40, 56, 5\) does not have 4 channels'),
        (npy(bands(4)[None]), r'\(1, 40, 56, 4\) is no image'),
        (npy(np.zeros((0, 7, 4))), r'\(0, 7, 4\) is no image'),
        (npy(np.zeros((4, 9, 4))), 'may come first or last'),
        (npy(np.zeros((8, 9, 4), bool)), 'type bool'),
        (PICKLED.getvalue(), 'damaged file: ValueError: Object arrays'),
        (npy(bands(4))[:-9], 'damaged file: ValueError'),
        (tiff(bands(4))[:300], 'damaged file'),
        (encode(picture(), 'PNG')[:300], 'damaged'),
        (encode(picture(), 'PNG'), r'\(40, 56, 3\) does not have 4 channels'),
        (b'hello, I am not an image', 'not a known image format'),
    ],
)
def test_what_is_no_such_image_is_refused(data, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        LoadChannels(4).decode(data)


@pytest.mark.parametrize('options', [dict(channels=0), dict(channels='3')])
def test_wrong_channels_are_named(options):
    with pytest.raises(InputError, match='channels of LoadChannels'):
        LoadChannels(**options)


@pytest.mark.parametrize('value_range', [(1, 0), (0, float('inf')), (0,), 255])
def test_wrong_ranges_are_named(value_range):
    with pytest.raises(InputError, match='value_range of LoadChannels'):
        LoadChannels(3, value_range)


def test_a_missing_library_is_not_a_damaged_image(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    with pytest.raises(LibraryMissing, match='tifffile is not installed .*channels.txt') as error:
        LoadChannels(4).decode(tiff_of_four)
    assert not isinstance(error.value, UnreadableImageError)


tiff_of_four = tiff(bands(4))


@pytest.mark.parametrize('size_hw', [(20, 28), (33, 97)], ids=str)
def test_floats_are_resized_as_pillow_resizes_each_channel(size_hw):
    image = np.random.default_rng(0).normal(size=(60, 80, 13)).astype(np.float32)
    found = resize(image, size_hw)
    for channel in range(13):
        grey = Image.fromarray(image[:, :, channel])
        expected = np.asarray(grey.resize(size_hw[::-1], Image.Resampling.BILINEAR))
        np.testing.assert_allclose(found[:, :, channel], expected, atol=1e-4)


@pytest.mark.parametrize('channels', [1, 4, 13])
def test_the_pipeline(tmp_path, channels):
    init_default_scope('mmpretrain')
    np.save(tmp_path / 'a.npy', bands(channels))
    steps = [
        TRANSFORMS.build(dict(type='a2mim_mm.LoadChannels', channels=channels, value_range=(0, HIGH))),
        RandomResizedCrop(32),
        RandomFlip(1.0),
        MaskSeed(),
        TRANSFORMS.build(dict(type='PackInputs', algorithm_keys=('mask_seed',))),
    ]
    results = dict(img_path=str(tmp_path / 'a.npy'))
    for step in steps:
        results = step(results)
    assert results['inputs'].shape == (channels, 32, 32)
    assert results['inputs'].is_floating_point() and 0 <= results['data_samples'].mask_seed


def test_files_of_other_channels_are_named_before_the_first_step(tmp_path):
    from a2mim_mm.data import UnlabelledImages

    for number in range(20):
        np.save(tmp_path / f'{number:02d}.npy', bands(4, (8, 9)))
    pipeline = [LoadChannels(4)]
    dataset = UnlabelledImages(tmp_path, pipeline, extensions=('.npy',))
    check_files(dataset)
    (tmp_path / '00.npy').write_bytes(b'damaged')
    check_files(dataset)
    np.save(tmp_path / '19.npy', bands(5, (8, 9)))
    with pytest.raises(InputError, match=r'19\.npy: an array \(8, 9, 5\) does not have 4 .*in_channels'):
        check_files(dataset)
