"""Loader, normalisation and backbone have to agree on the channels before anything is built."""

import numpy as np
import pytest
from helpers.configs import CONFIGS
from helpers.toy_training import tool
from mmengine.config import Config

from a2mim_mm.engine.config import check_channels

TRAINING = """
_base_ = {base!r}
model = dict(backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=8, in_channels={channels}))
data_preprocessor = dict(
    _delete_=True, type='a2mim_mm.ChannelsPreprocessor', mean=[100.0] * {channels}, std=[50.0] * {channels}
)
pipeline = [
    dict(type='a2mim_mm.LoadChannels', channels={channels}, value_range=(0, 10000)),
    dict(type='a2mim_mm.RandomResizedCrop', scale=32),
    dict(type='RandomFlip', prob=0.5),
    dict(type='a2mim_mm.MaskSeed'),
    dict(type='PackInputs', algorithm_keys=('mask_seed', 'unreadable')),
]
loader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root={folder!r}, extensions=['.npy'], pipeline=pipeline),
)
train_dataloader = loader
test_dataloader = loader
train_cfg = dict(max_epochs=1)
custom_hooks = {hooks}
"""


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
        (dict(mean=3), r'data_preprocessor.mean has 3 values for images of 13 channels: write 13 values'),
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


@pytest.fixture
def train(tmp_path):
    """Trains on four files of 16 bits with so many channels."""

    def trained(channels, in_files=None, hooks=()):
        random = np.random.default_rng(0)
        for number in range(4):
            image = random.integers(0, 10000, (in_files or channels, 40, 48), dtype=np.uint16)
            np.save(tmp_path / f'{number}.npy', image)
        base = str(CONFIGS / '_base_' / 'cifar.py')
        path = tmp_path / f'channels_{channels}.py'
        text = TRAINING.format(base=base, channels=channels, folder=str(tmp_path), hooks=list(hooks))
        path.write_text(text)
        tool('train').main([str(path), '--work-dir', str(tmp_path / 'out'), '--overwrite'])

    return trained


def test_files_with_other_channels_are_named(train):
    with pytest.raises(ValueError, match=r'npy: an array \(4, 40, 48\) does not have 13 channels: write the'):
        train(13, in_files=4)


def test_chosen_channels_are_drawn(train, tmp_path):
    hook = dict(type='a2mim_mm.ReconstructionHook', channels=(3, 2, 1), value_range=(0, 255))
    train(4, hooks=[hook])
    assert (tmp_path / 'out' / 'reconstructions' / 'epoch_0001.png').is_file()
    train(4, hooks=[dict(hook, images=str(tmp_path / '0.npy'))])
    with pytest.raises(ValueError, match=r'channels must be one or three of 0\.\.3'):
        train(4, hooks=[dict(hook, channels=(4,))])
