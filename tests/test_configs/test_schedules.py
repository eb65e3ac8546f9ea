"""The lr of every step of every config is what its recipe says, typed here in closed form.

The schedules are built by mmengine's Runner, which ends them with the training.
"""

import math

import numpy as np
import pytest
import torch
from helpers.configs import PROJECTS, as_written, names
from helpers.toy_training import ToyModel
from mmengine.hooks import ParamSchedulerHook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner


def rising(step, rise, start):
    """Share of the peak while the lr rises, linearly, to all of it in step ``rise - 1``."""
    return start + (1 - start) * step / (rise - 1) if step < rise else 1


def cosine(peak, epochs, warmup, start, low, length=3):
    """Warm-up of so many epochs, then half a cosine to ``low``."""

    def rate(step, last):
        rise = warmup * length
        share = (1 + math.cos(math.pi * (step - rise) / (last - rise))) / 2
        return peak * rising(step, rise, start) if step < rise else low + (peak - low) * share

    return length, epochs, rate


def drops(peak, epochs, milestones, rise=0, start=1.0, length=3):
    """Warm-up of so many iterations; a tenth from each milestone, an epoch, on."""

    def rate(step, _):
        return peak * rising(step, rise, start) * 0.1 ** sum(step // length >= epoch for epoch in milestones)

    return length, epochs, rate


def poly(peak, count, power, low, rise=0, start=1.0, length=1):
    """Warm-up of so many iterations, then the power of what is left."""

    def rate(step, last):
        share = max(1 - (step - rise) / (last - rise - 1), 0) ** power
        return peak * rising(step, rise, start) if step < rise else low + (peak - low) * share

    return length, count, rate


# Peaks are for the batch that the config is made for. Warm-ups of mmdet and mmseg count iterations.
COSINES = {
    'selfsup/a2mim_r50': cosine(1.2e-3, 300, 10, 1e-4, 1e-5),
    'selfsup/a2mim_r50_100e': cosine(1.2e-3, 100, 10, 1e-4, 1e-5),
    'selfsup/custom_folder': cosine(1.2e-3, 300, 10, 1e-4, 1e-5),
    'selfsup/custom_channels': cosine(1.2e-3, 300, 10, 1e-4, 1e-5),
    'selfsup/a2mim_vit-s': cosine(8e-4, 300, 10, 1e-4, 1e-5),
    'selfsup/a2mim_vit-b': cosine(8e-4, 800, 10, 1e-4, 1e-5),
    'selfsup/continue_from': cosine(2e-4, 100, 5, 1e-4, 1e-5),
    'selfsup/demo_vit': cosine(1e-3, 30, 2, 1e-2, 1e-5),
    'selfsup/demo_resnet': cosine(1e-3, 30, 2, 1e-2, 1e-5),
    'selfsup/official/a2mim_r50': cosine(1.2e-3, 300, 10, 1e-6, 1e-5),
    'selfsup/official/a2mim_r50_100e': cosine(1.2e-3, 100, 10, 1e-6, 1e-5),
    'classification/custom_folders': cosine(8e-3, 100, 5, 1e-4, 1e-6),
    'classification/r50_a2mim_rsb-a2_ft-300e': cosine(1.2e-2, 300, 5, 1e-4, 1e-6),
    'classification/r50_a2mim_rsb-a2_ft-300e_rsb-lr': cosine(5e-3, 300, 5, 1e-4, 1e-6),
    'classification/r50_a2mim_rsb-a3_ft-100e': cosine(8e-3, 100, 5, 1e-4, 1e-6),
    'classification/vit-b_a2mim_ft-100e': cosine(1e-3, 100, 5, 1e-4, 1e-6),
    'classification/vit-s_a2mim_ft-100e': cosine(1e-3, 100, 5, 1e-4, 1e-6),
    'classification/vit-b_a2mim_linear-90e': cosine(6.4, 90, 10, 1e-4, 0),
    'classification/vit-s_a2mim_linear-90e': cosine(6.4, 90, 10, 1e-4, 0),
    'classification/official/r50_a2mim_rsb-a2_ft-300e_official': cosine(5e-3, 300, 5, 1e-4, 1e-6),
    'classification/official/r50_a2mim_rsb-a3_ft-100e_official': cosine(8e-3, 100, 5, 1e-4, 1e-6),
    'classification/official/vit-b_a2mim_ft-100e_official': cosine(1e-2, 100, 20, 1e-6, 1e-6),
    'classification/official/vit-s_a2mim_ft-100e_official': cosine(1e-2, 100, 20, 1e-6, 1e-6),
    'classification/official/vit-s_a2mim_ft-200e_official': cosine(1e-2, 200, 20, 1e-6, 1e-6),
}
POLYS = {
    'mmseg/custom_masks': poly(0.01, 126_313, 0.9, 1e-4),  # 100 epochs of 20,210 images (A.3) by 16
    'mmseg/custom_channels': poly(0.01, 126_313, 0.9, 1e-4),
    'mmseg/upernet_a2mim-r50_100e_ade20k-512x512': poly(0.01, 126_313, 0.9, 1e-4),
    'mmseg/upernet_a2mim-vit-b_100e_ade20k-512x512': poly(1e-4, 126_313, 1, 0, 1500, 1e-6),
    'mmseg/upernet_a2mim-vit-s_100e_ade20k-512x512': poly(1e-4, 126_313, 1, 0, 1500, 1e-6),
}
EXPECTED = {
    **COSINES,
    **POLYS,
    'selfsup/official/a2mim_vit-s': drops(4e-4, 800, [700], 30, 2e-6),
    'selfsup/official/a2mim_vit-b': drops(4e-4, 800, [700], 30, 2e-6),
    'classification/r50_a2mim_linear-100e': drops(30, 100, [60, 80]),
    'mmdet/custom_coco': drops(0.02, 12, [8, 11], 500, 1e-3, length=100),
    'mmdet/mask-rcnn_a2mim-r50-fpn_1x_coco': drops(0.02, 12, [8, 11], 500, 1e-3, length=100),
    'mmdet/mask-rcnn_a2mim-r50-c4_2x_coco': drops(0.02, 24, [16, 22], 1000, 1e-3, length=100),
    'mmdet/mask-rcnn_a2mim-vit-b-fpn_1x_coco': drops(1e-4, 12, [9, 11], 500, 1e-3, length=100),
    'mmdet/mask-rcnn_a2mim-vit-s-fpn_1x_coco': drops(1e-4, 12, [9, 11], 500, 1e-3, length=100),
    'nuclei/pretrain_resnet18': cosine(1e-3, 12, 1, 1e-2, 1e-5),
    'nuclei/pretrain_vit-tiny': cosine(1e-3, 24, 1, 1e-2, 1e-5),
    'nuclei/mask-rcnn_resnet18-fpn': poly(3e-4, 8, 1, 0, 20, 1e-2, length=50),
    'nuclei/upernet_resnet18': poly(5e-4, 665, 1, 0, 20, 1e-2),
    'nuclei/upernet_vit-tiny': poly(5e-4, 665, 1, 0, 20, 1e-2),
}
for size in ('r101', 'r152', 'r200', 'convnext-t', 'convnext-s', 'convnext-b'):
    EXPECTED[f'selfsup/official/a2mim_{size}'] = cosine(1.2e-3, 300, 10, 1e-6, 1e-5)
for data in ('cifar10', 'cifar100'):
    EXPECTED[f'selfsup/cifar/resnet18_{data}'] = cosine(6e-4, 1000, 10, 1e-4, 1e-5)
    EXPECTED[f'selfsup/cifar/vit_tiny_{data}'] = cosine(4e-4, 1000, 10, 1e-4, 1e-5)
EXPECTED['selfsup/official/a2mim_vit-l'] = EXPECTED['selfsup/official/a2mim_vit-b']
# Of the photos of clothes: epochs of fine-tuning, its warm-up, epochs of pre-training, its warm-up, of probes
for sizes, tune, warm, train, rise, probe in (
    (('resnet18', 'vit-tiny'), 8, 1, 15, 1, 15),
    (('resnet50', 'vit-small'), 50, 5, 400, 20, 50),
):
    for size in sizes:
        for suffix in ('', '_10pct'):
            EXPECTED[f'clothing/finetune_{size}{suffix}'] = cosine(5e-4, tune, warm, 1e-2, 1e-6)
        for suffix in ('', '_simmim') if tune == 8 else ('',):
            EXPECTED[f'clothing/pretrain_{size}{suffix}'] = cosine(1e-3, train, rise, 1e-2, 1e-5)
        EXPECTED[f'clothing/linear_{size}'] = cosine(0.05, probe, 0, 1, 0)


@pytest.fixture(scope='module')
def check(tmp_path_factory):
    """A function that builds and steps a config's schedules as a training does, and checks every lr."""
    runner = Runner(ToyModel(), str(tmp_path_factory.mktemp('runner')), log_level='ERROR')
    hook = ParamSchedulerHook()

    def check(cfg, length, rate):
        by_epoch = 'max_epochs' in cfg.train_cfg
        count = {key: cfg.train_cfg[key] for key in ('max_epochs', 'max_iters') if key in cfg.train_cfg}
        runner._train_dataloader = loader = torch.utils.data.DataLoader([0] * length)
        runner._train_loop = (EpochBasedTrainLoop if by_epoch else IterBasedTrainLoop)(
            runner, loader, **count
        )
        optimizer = torch.optim.SGD(runner.model.parameters(), lr=cfg.optim_wrapper.optimizer.lr)
        runner.optim_wrapper = OptimWrapper(optimizer)
        runner.param_schedulers = runner.build_param_scheduler(cfg.param_scheduler)
        found = []
        for step in range(runner.max_iters):
            found.append(optimizer.param_groups[0]['lr'])
            runner.optim_wrapper.step()
            hook.after_train_iter(runner, step)
            if by_epoch and (step + 1) % length == 0:
                hook.after_train_epoch(runner)
        expected = [rate(step, runner.max_iters) for step in range(runner.max_iters)]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9 * max(expected))

    return check


def test_every_config_is_here():
    pretraining = {*names('selfsup/**/*')} - {*names('selfsup/zoo/*')}  # these: see test_zoo.py
    assert {*EXPECTED} == {*PROJECTS, *pretraining, *names('classification/**/*'), *names('mm*/*')}


@pytest.mark.parametrize('name', [name for name in EXPECTED if name not in POLYS])
def test_lr_of_every_step(name, check):
    cfg, (length, count, rate) = as_written(name), EXPECTED[name]
    assert cfg.train_cfg.get('max_epochs', cfg.train_cfg.get('max_iters')) == count
    check(cfg, length, rate)


@pytest.mark.parametrize('name', COSINES | POLYS)
def test_another_length_of_training_is_one_number(name, check):
    cfg, (length, count, rate) = as_written(name), EXPECTED[name]
    if name in POLYS:
        assert cfg.train_cfg.max_iters == count
        cfg.train_cfg.max_iters = 4000
    else:
        cfg.train_cfg.max_epochs = 37
    check(cfg, length, rate)
