"""The two transforms: loading an image, and the seed of its mask."""

import numpy as np
import pytest
from helpers.pictures import encode, picture

from a2mim_mm.data import LoadImage, MaskSeed, UnreadableImageError
from a2mim_mm.registry import TRANSFORMS


def test_load_image_fills_in_what_mmcv_fills_in(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(encode(picture(40, 56), 'PNG'))
    results = TRANSFORMS.build(dict(type='a2mim_mm.LoadImage'))({'img_path': str(path)})
    np.testing.assert_array_equal(results['img'], picture(40, 56)[:, :, ::-1])
    assert results['img_shape'] == results['ori_shape'] == (40, 56)


def test_load_image_reads_through_a_file_backend(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(encode(picture(), 'PNG'))
    assert LoadImage(backend_args=dict(backend='local'))({'img_path': str(path)})['img'].shape == (40, 56, 3)


def test_load_image_hands_strict_on(tmp_path):
    data = encode(picture(), 'JPEG')
    path = tmp_path / 'a.jpg'
    path.write_bytes(data[:-2] + b'\x12' * 40 + data[-2:])
    assert LoadImage(strict=False)({'img_path': str(path)})['img'].shape == (40, 56, 3)
    with pytest.raises(UnreadableImageError, match='extraneous bytes'):
        LoadImage()({'img_path': str(path)})


@pytest.mark.parametrize(
    'name, reason', [('gone.jpg', 'FileNotFoundError: No such file'), ('.', 'IsADirectoryError')]
)
def test_load_image_reports_what_the_system_says(tmp_path, name, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        LoadImage()({'img_path': str(tmp_path / name)})


def test_a_mask_seed_comes_from_numpys_global_generator():
    def seeds():
        np.random.seed(3)
        return [MaskSeed()({})['mask_seed'] for _ in range(1000)]

    first = seeds()
    assert first == seeds() and len({*first}) == 1000
    assert all(type(seed) is int and 0 <= seed < 1 << 32 for seed in first)
    assert max(first) > 1 << 31  # all of the range
