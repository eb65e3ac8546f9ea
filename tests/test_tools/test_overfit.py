"""A detector and a segmentor learn one photo by heart, which takes every part of them to work."""

import json
from pathlib import Path

import pytest
from helpers.own_data import write_own_config
from helpers.toy_training import tool

pytest.importorskip('mmcv._ext', reason='mmdet needs the compiled ops of mmcv')
voc_photo = pytest.importorskip('helpers.voc_photo')
pytestmark = pytest.mark.slow

CPU = [
    f'{loader}_dataloader.{option}'
    for loader in ('train', 'val', 'test')
    for option in ('num_workers=0', 'persistent_workers=False')
]


def overfit(folder: Path, config: str, options: list[str]) -> dict[str, float]:
    """Train, then test by itself; the metrics."""
    tool('train').main([config, '--work-dir', str(folder / 'run'), '--cfg-options', *options, *CPU])
    checkpoint = (folder / 'run' / 'last_checkpoint').read_text()
    tool('test').main(
        [config, checkpoint, '--out', str(folder / 'metrics.json'), '--cfg-options', *options, *CPU]
    )
    return json.loads((folder / 'metrics.json').read_text())


def test_segmentor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    voc_photo.write_masks(tmp_path)
    config = write_own_config(
        tmp_path / 'own.py',
        'mmseg/custom_masks.py',
        data_root=f'{tmp_path}/',
        classes=('background', *voc_photo.CLASSES.values()),
        image_suffix='.jpg',
    )
    with open(config, 'a') as file:
        file.write("optim_wrapper = dict(_delete_=True, optimizer=dict(type='AdamW', lr=1e-3))\n")
    steps = 250
    metrics = overfit(
        tmp_path,
        config,
        [
            'model.backbone.depth=18',
            'model.decode_head.in_channels=[64,128,256,512]',
            'model.decode_head.channels=64',
            'model.auxiliary_head.in_channels=256',
            'model.decode_head.loss_decode.class_weight=[0.3,3.0,2.0,0.3,0.3]',  # bottle and chairs are small
            'model.decode_head.dropout_ratio=0.0',
            'train_dataloader.dataset.pipeline.2.scale=(500,375)',
            'train_dataloader.dataset.pipeline.2.ratio_range=(1.0,1.0)',
            'train_dataloader.dataset.pipeline.3.crop_size=(384,512)',  # the whole photo
            'train_dataloader.dataset.pipeline.5.hue_delta=1',
            'train_dataloader.dataset.pipeline.5.brightness_delta=1',
            'train_dataloader.dataset.pipeline.5.saturation_range=(1.0,1.0)',
            'train_dataloader.dataset.pipeline.5.contrast_range=(1.0,1.0)',
            'model.data_preprocessor.size=(384,512)',
            'val_dataloader.dataset.pipeline.1.scale=(500,375)',
            'test_dataloader.dataset.pipeline.1.scale=(500,375)',
            'auto_scale_lr.enable=False',
            'param_scheduler.0.eta_min=0',
            f'param_scheduler.0.end={steps}',
            f'train_cfg.max_iters={steps}',
            f'train_cfg.val_interval={steps}',
        ],
    )
    assert metrics['mIoU'] > 80  # percent


def test_detector(tmp_path, monkeypatch):
    """The five largest instances, with ViT-S: windows, pyramid and layer-wise decay are at work."""
    monkeypatch.chdir(tmp_path)
    voc_photo.write_coco(tmp_path, largest=5)
    config = write_own_config(
        tmp_path / 'own.py',
        'mmdet/custom_coco.py',
        base='mask-rcnn_a2mim-vit-s-fpn_1x_coco.py',
        data_root=f'{tmp_path}/',
        classes=tuple(voc_photo.CLASSES.values()),
        image_size=(320, 240),
    )
    epochs = 300
    metrics = overfit(
        tmp_path,
        config,
        [
            'model.backbone.drop_path_rate=0.0',
            'model.train_cfg.rcnn.sampler.num=64',
            'auto_scale_lr.enable=False',
            'optim_wrapper.optimizer.lr=0.0003',
            'optim_wrapper.clip_grad.max_norm=1.0',
            'optim_wrapper.paramwise_cfg.layer_decay_rate=0.9',
            'param_scheduler.0.end=20',
            f'param_scheduler.1.milestones=[{epochs - 40},{epochs - 20}]',
            f'param_scheduler.1.end={epochs}',
            f'train_cfg.max_epochs={epochs}',
            f'train_cfg.val_interval={epochs}',
            f'default_hooks.checkpoint.interval={epochs}',
        ],
    )
    assert metrics['coco/segm_mAP_50'] > 0.5
