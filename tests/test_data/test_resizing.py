"""Pictures are resized as Pillow resizes them, in every place where a network sees them."""

import numpy as np
import pytest
from helpers.toy_training import ROOT
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from a2mim_mm.data.reading import read_image
from a2mim_mm.data.resizing import RandomResizedCrop, resize
from a2mim_mm.registry import TRANSFORMS

PIPELINES = sorted(
    str(path.relative_to(ROOT / 'configs'))
    for path in (ROOT / 'configs').rglob('*.py')
    if not {'_base_', 'mmdet', 'mmseg'} & {*path.relative_to(ROOT / 'configs').parts}
    and not path.stem.startswith(('upernet', 'mask-rcnn'))
)


def pillow(img_hw3, size_hw):
    return np.asarray(Image.fromarray(img_hw3).resize(size_hw[::-1], Image.Resampling.BILINEAR))


@pytest.mark.parametrize('size_hw', [(60, 70), (33, 97), (300, 200), (120, 160)], ids=str)
def test_equals_pillow_on_noise(size_hw):
    img_hw3 = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    difference = resize(img_hw3, size_hw).astype(int) - pillow(img_hw3, size_hw)
    assert np.abs(difference).max() <= 1


def stripes(height=300, width=400):
    """Columns that alternate between black and white: at half the size or less, one even grey."""
    return np.repeat(np.tile(np.array([0, 255], np.uint8), width // 2)[None], height, 0)[:, :, None].repeat(
        3, 2
    )


@pytest.mark.parametrize('name', PIPELINES)
def test_every_pipeline_filters_what_it_makes_smaller(name):
    """Frequencies above the new sampling's reach must not come back as others."""
    cfg = Config.fromfile(ROOT / 'configs' / name)
    init_default_scope(cfg.default_scope)
    for loader in (cfg.train_dataloader, cfg.get('val_dataloader')):
        steps = loader.dataset.pipeline if loader else ()
        for step in steps:
            if step.type.rpartition('.')[2] in ('RandomResizedCrop', 'ResizeEdge'):
                step = step.copy()
                step.scale = 64
                if 'crop_ratio_range' in step:
                    step.crop_ratio_range = (0.9, 1.0)
                np.random.seed(0)
                small = TRANSFORMS.build(step)(dict(img=stripes(), img_shape=(300, 400)))['img']
                assert small.std() < 8, step


def test_pictures_for_reconstruction_are_filtered(tmp_path):
    Image.fromarray(stripes()).save(tmp_path / 'a.png')
    assert read_image(tmp_path / 'a.png', (64, 64)).std() < 8 / 255


def test_crop_is_the_one_of_mmpretrain():
    """Only the resizing differs: the same draws choose the same part of the image."""
    img_hw3 = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    crop = RandomResizedCrop((40, 56), crop_ratio_range=(0.3, 0.8))
    np.random.seed(3)
    top, left, height, width = crop.rand_crop_params(img_hw3)
    np.random.seed(3)
    results = crop(dict(img=img_hw3))
    assert results['img_shape'] == (40, 56, 3)
    expected = pillow(np.ascontiguousarray(img_hw3[top : top + height, left : left + width]), (40, 56))
    assert np.abs(results['img'].astype(int) - expected).max() <= 1
