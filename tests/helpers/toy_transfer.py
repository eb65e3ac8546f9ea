"""Small real backbones: configs that pre-train them by A2MIM and configs that train a classifier on them."""

from pathlib import Path

import cv2
import numpy as np
import torch
from helpers.toy_training import ToyImages
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import DATASETS, HOOKS
from mmpretrain.structures import DataSample

SIZE = 64  # pixels
NORMALISATION = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], to_rgb=True)
RESNET = dict(type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=8)
VIT = dict(
    type='a2mim_mm.A2MIMViT',
    arch=dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48),
    img_size=SIZE,
    patch_size=16,
    out_type='featmap',
)
BACKBONES = dict(resnet=RESNET, vit=VIT)
DECODERS = dict(
    resnet=dict(type='SimMIMLinearDecoder', in_channels=64, encoder_stride=32),
    vit=dict(type='SimMIMLinearDecoder', in_channels=24, encoder_stride=16),
)
TOKENS = dict(
    resnet=dict(type='a2mim_mm.MaskToken', channels=32, site='layer3'),
    vit=dict(type='a2mim_mm.MaskToken', channels=24, site='layers.0'),
)


@DATASETS.register_module()
class ToyLabelledImages(ToyImages):
    """Random images of two classes."""

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return dict(
            inputs=torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8, generator=generator),
            data_samples=DataSample().set_gt_label(index % 2),
        )


@HOOKS.register_module()
class KeepStart(Hook):
    """Saves the weights that a run's first step starts from, of each rank: start_ITERATION_RANK.pth."""

    priority = 'LOWEST'

    def before_train(self, runner):
        self.kept = False

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if not self.kept:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            torch.save(model.state_dict(), Path(runner.work_dir) / f'start_{runner.iter}_{get_rank()}.pth')
            self.kept = True


def pretraining(kind, photos):
    """Config of one epoch of A2MIM, for write_settings."""
    pipeline = [
        dict(type='a2mim_mm.LoadImage'),
        dict(type='RandomResizedCrop', scale=SIZE, crop_ratio_range=(0.67, 1.0)),
        dict(type='a2mim_mm.MaskSeed'),
        dict(type='PackInputs', algorithm_keys=('mask_seed', 'unreadable')),
    ]
    model = dict(
        type='a2mim_mm.A2MIM',
        data_preprocessor=dict(type='SelfSupDataPreprocessor', **NORMALISATION),
        backbone=BACKBONES[kind],
        neck=DECODERS[kind],
        head=dict(type='a2mim_mm.A2MIMHead'),
        mask=dict(type='a2mim_mm.RandomPatchMask', patch_size=16),
        mask_token=TOKENS[kind],
    )
    dataset = dict(type='a2mim_mm.UnlabelledImages', data_root=str(photos), pipeline=pipeline)
    return _training(model, dataset, dict(type='a2mim_mm.KeyedSampler', shuffle=True), epochs=1)


def classification(backbone, channels=64, **settings):
    """Config of two epochs, of two steps each, of a classifier on a backbone, for write_settings."""
    model = dict(
        type='ImageClassifier',
        data_preprocessor=dict(num_classes=2, **NORMALISATION),
        backbone=backbone,
        neck=None if 'ViT' in backbone['type'] else dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=channels),
    )
    dataset = dict(type='ToyLabelledImages', length=8)
    sampler = dict(type='DefaultSampler', shuffle=False)
    return {**_training(model, dataset, sampler, epochs=2, hooks=[dict(type='KeepStart')]), **settings}


def write_settings(folder, name, settings):
    """Write a config file. Each run in a process needs its own name."""
    path = Path(folder) / f'{name}.py'
    path.write_text(''.join(f'{key} = {value!r}\n' for key, value in settings.items()))
    return path


def draw_photos(folder, count=8):
    """Write a few smooth pictures."""
    noise = np.random.default_rng(0)
    for index in range(count):
        coarse = noise.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f'{index}.png'), cv2.resize(coarse, (100, 80)))
    return folder


def _training(model, dataset, sampler, epochs, hooks=()):
    loader = dict(
        batch_size=4,
        num_workers=0,
        sampler=sampler,
        dataset=dataset,
        collate_fn=dict(type='default_collate'),
    )
    return dict(
        default_scope='mmpretrain',
        custom_imports=dict(
            imports=['helpers.toy_training', 'helpers.toy_transfer', 'a2mim_mm'], allow_failed_imports=False
        ),
        model=model,
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1), checkpoint=dict(type='CheckpointHook', interval=1)
        ),
        custom_hooks=list(hooks),
        randomness=dict(seed=0),
    )
