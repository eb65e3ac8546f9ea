"""Loader, normalisation and backbone have to agree on the channels before anything is built."""

import pytest
from mmengine.config import Config

from a2mim_mm.engine.config import check_channels


def config(backbone=13, loader=13, mean=13, **preprocessor):
    return Config(
        dict(
            model=dict(backbone=dict(type='ResNet', depth=18, in_channels=backbone)),
            data_preprocessor=dict(
                type='a2mim_mm.ChannelsPreprocessor', mean=[0.0] * mean, std=[1.0] * 13, **preprocessor
            ),
            train_dataloader=dict(
                dataset=dict(pipeline=[dict(type='a2mim_mm.LoadChannels', channels=loader)])
            ),
        )
    )


def test_one_number_everywhere_is_fine():
    check_channels(config())


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(backbone=4), r'channels=13, but the first layer of the backbone takes 4: write both'),
        (dict(mean=3), r'data_preprocessor.mean has 3 values for images of 13 .*tools/mean_std.py'),
        (dict(to_rgb=True), r'data_preprocessor.to_rgb is True, but LoadChannels keeps'),
        (dict(base=dict(bgr_to_rgb=True)), r'data_preprocessor.bgr_to_rgb is True'),
    ],
)
def test_what_does_not_fit_is_named(settings, words):
    with pytest.raises(ValueError, match=words):
        check_channels(config(**settings))


def test_load_image_has_three_channels():
    cfg = config()
    cfg.train_dataloader.dataset.pipeline = [dict(type='a2mim_mm.LoadImage')]
    with pytest.raises(ValueError, match=r'always gives 3 channels.*LoadChannels.*channels=13'):
        check_channels(cfg)
