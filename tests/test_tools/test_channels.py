"""Images of 1, 4 and 13 channels from pre-training to segmentation, by the shipped configs."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.band_files import HIGH, bands, write_bands
from helpers.own_data import write_own_config
from helpers.toy_training import read_log, tool

from a2mim_mm.apis import extract_features, load_backbone, load_model, reconstruct
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

    _check_features(backbone, channels)
    _check_pictures(channels)

    pytest.importorskip('mmcv._ext', reason='mmseg needs the compiled ops of mmcv')
    upernet = segmentation(tmp_path / 'masks', channels)
    tool('train').main(
        [upernet, '--pretrained', 'run/epoch_1.pth', '--work-dir', 'segmented', *options, *UPERNET]
    )
    log = read_log('segmented')
    assert 'starting from the weights in run/epoch_1.pth' in log and 'mIoU' in log


def _check_features(backbone, channels):
    """Files, arrays in their units and tensors in those of the mean have the same features."""
    config = backbone.pretrained_cfg
    assert config['input_size'] == (channels, 64, 64)
    assert config['mean'] == (127.5,) * channels and config['std'] == (63.75,) * channels
    assert load_backbone('run/backbone.safetensors').pretrained_cfg == config
    image = bands(channels, (64, 64))
    np.save('square.npy', image)
    scaled = torch.tensor(image.astype(np.float32) * (255 / HIGH)).permute(2, 0, 1)[None]
    found = [extract_features(backbone, images)[-1] for images in ('square.npy', image, scaled)]
    with torch.no_grad():
        expected = backbone((scaled - 127.5) / 63.75)[-1]
    for feature in found:
        torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-4)
    assert len(extract_features(backbone, 'files')[-1]) == 6
    with pytest.raises(ValueError, match=rf'images must be \(B, {channels}, H, W\), finite floats'):
        extract_features(backbone, torch.full((1, channels, 64, 64), torch.nan))


def _check_pictures(channels):
    """Of the training, of the tools, and in the units of the mean."""
    assert Path('run/reconstructions/epoch_0001.png').is_file()
    pictures = reconstruct(load_model('run/epoch_1.pth'), 'files')
    original, composite = pictures['original'], pictures['composite']
    assert original.shape == (6, channels, 64, 64) and original.max() > 2
    assert 0 < (original == composite).float().mean() < 1
    last = str(channels - 1)
    command = ['run/epoch_1.pth', '--images', 'files', '--out', 'grid.png']
    tool('reconstruct').main([*command, '--channels', last, '--value-range', '0', '255', '--no-token'])
    tool('reconstruct').main([*command, '--config', 'own.py', '--cfg-options', *PRETRAINING])
    tool('browse_data').main(['own.py', '--out', 'seen.png', '--channels', last])
    assert Path('grid.png').is_file() and Path('seen.png').is_file()
