"""The two transforms: loading an image, drawing the scores of its mask."""

import warnings

import numpy as np
import pytest
from helpers.pictures import encode, picture

from a2mim_mm.data import LoadImage, MaskScores, UnreadableImageError, transforms
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


def scores(height: int, width: int, patch_size: int) -> np.ndarray:
    return MaskScores(patch_size)({'img': np.zeros((height, width, 3), np.uint8)})['mask_scores']


def test_one_score_a_patch():
    drawn = scores(160, 224, 32)
    assert drawn.shape == (5, 7) and drawn.dtype == np.float32
    assert len(np.unique(drawn)) == 35


def test_scores_are_uniform_in_0_to_1_without_1():
    drawn = scores(320, 320, 1).ravel()
    assert drawn.min() >= 0 and drawn.max() < 1
    counts, _ = np.histogram(drawn, 10, (0, 1))
    assert abs(counts / drawn.size - 0.1).max() < 0.01


def test_scores_come_from_numpys_global_generator():
    np.random.seed(3)
    first, second = scores(224, 224, 32), scores(224, 224, 32)
    np.random.seed(3)
    np.testing.assert_array_equal(scores(224, 224, 32), first)
    assert (first != second).any()


@pytest.mark.parametrize('size', [(224, 225), (100, 224)])
def test_a_patch_that_does_not_divide_the_image(size):
    with pytest.raises(ValueError, match=f'patch_size=32 does not divide the input of {size[0]} x {size[1]}'):
        scores(*size, 32)


def test_a_patch_size_that_is_none():
    with pytest.raises(ValueError, match='patch_size must be a positive number'):
        MaskScores(0)


def test_a_small_grid_is_warned_of_once():
    transforms._grid.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for _ in range(5):
            scores(64, 64, 32)
    assert len(caught) == 1 and 'only 2 x 2 patches' in str(caught[0].message)
