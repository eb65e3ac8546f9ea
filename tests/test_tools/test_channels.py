"""Images of 1, 4 and 13 channels from pre-training to segmentation, by the shipped configs."""

import cv2
import numpy as np
import pytest
import torch
from helpers.band_files import HIGH, write_bands
from helpers.own_data import write_own_config
from helpers.toy_training import read_log, tool

from a2mim_mm.apis import load_backbone
from a2mim_mm.checkpoints import load_checkpoint_file

CPU = ('train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False')
PRETRAINING = (
    'image_size=64',
    'mask_patch_size=16',
    'epochs=1',
    'batch_size=3',
    'model.backbone.depth=18',
    'model.neck.in_channels=512',
    'model.mask_token.channels=256',
)
UPERNET = (
    'train_cfg.max_iters=1',
    'model.backbone.depth=18',
    'train_dataloader.dataset.pipeline.2.scale=(128,96)',
    'train_dataloader.dataset.pipeline.3.crop_size=(64,64)',
    'model.data_preprocessor.base.size=(64,64)',
    'model.decode_head.in_channels=[64,128,256,512]',
    'model.decode_head.channels=16',
    'model.auxiliary_head.in_channels=256',
    'val_dataloader.dataset.pipeline.1.scale=(128,96)',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
)


def pretraining(folder, channels, **variables):
    variables = dict(in_channels=channels, value_range=(0, HIGH), **variables)
    return write_own_config(folder / 'own.py', 'selfsup/custom_channels.py', **variables)


def segmentation(folder, channels):
    """UperNet's config, and data for it."""
    for split in ('train', 'val'):
        for path in write_bands(folder / 'images' / split, channels, count=2).iterdir():
            mask = folder / 'masks' / split / f'{path.stem}.png'
            mask.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(mask), np.kron(np.eye(2, dtype=np.uint8), np.ones((40, 50), np.uint8)))
        (folder / 'images' / split / '0.npy').rename(folder / 'images' / split / '0.tif')  # content decides
    masks = write_own_config(
        folder / 'masks.py',
        'mmseg/custom_masks.py',
        data_root=str(folder),
        classes=('a', 'b'),
        image_suffix='.tif',
    )
    variables = dict(in_channels=channels, value_range=(0, HIGH))
    return write_own_config(folder / 'upernet.py', 'mmseg/custom_channels.py', base=masks, **variables)


@pytest.mark.parametrize('channels', [1, 4, 13])
def test_from_files_to_segmentation(tmp_path, monkeypatch, channels):
    monkeypatch.chdir(tmp_path)
    config = pretraining(tmp_path, channels, data_root=str(write_bands(tmp_path / 'files', channels)))
    options = ['--device', 'cpu', '--cfg-options', *CPU]
    tool('train').main([config, '--work-dir', 'run', *options, *PRETRAINING])
    assert 'loss_freq' in read_log('run')

    backbone = load_backbone('run/epoch_1.pth')
    weight = load_checkpoint_file('run/epoch_1.pth')['state_dict']['backbone.conv1.weight']
    assert weight.shape[1] == channels
    assert torch.equal(backbone.conv1.weight, weight)
    assert backbone.pretrained_cfg['input_size'] == (channels, 64, 64)

    pytest.importorskip('mmcv._ext', reason='mmseg needs the compiled ops of mmcv')
    upernet = segmentation(tmp_path / 'masks', channels)
    tool('train').main(
        [upernet, '--pretrained', 'run/epoch_1.pth', '--work-dir', 'segmented', *options, *UPERNET]
    )
    log = read_log('segmented')
    assert 'starting from the weights in run/epoch_1.pth' in log and 'mIoU' in log
