"""The lr at every epoch of every config is what its recipe says, typed here in closed form."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

FOLDER = Path(__file__).resolve().parents[1] / 'configs'
FILES = [path.relative_to(FOLDER).with_suffix('') for path in FOLDER.rglob('*.py')]
PROJECTS = {f'{path.parts[-3]}/{path.stem}': path for path in FOLDER.parent.glob('projects/*/configs/*.py')}
CONFIGS = {str(path) for path in FILES if '_base_' not in path.parts} | PROJECTS.keys()


def rising(step, rise, start):
    """Share of the peak while the lr rises, linearly, to all of it in step ``rise - 1``."""
    return start + (1 - start) * step / (rise - 1) if step < rise else 1


def cosine(peak, epochs, warmup, start, low, length=4):
    """Warm-up of so many epochs, then half a cosine to ``low``."""

    def rate(epoch):
        if epoch < warmup:
            return peak * rising(epoch * length, warmup * length, start)
        return low + (peak - low) * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup))) / 2

    return length, epochs, rate


def steps(peak, epochs, milestones, rise=0, start=1.0, length=4):
    """Warm-up of so many iterations; a tenth from each milestone, an epoch, on."""

    def rate(epoch):
        drops = sum(epoch >= milestone for milestone in milestones)
        return peak * rising(epoch * length, rise, start) * 0.1**drops

    return length, epochs, rate


def poly(peak, iterations, power, low, rise=0, start=1.0):
    """Warm-up of so many iterations, then the power of what is left; sampled at 50 places."""
    length = iterations // 50

    def rate(place):
        step = place * length
        if step < rise:
            return peak * rising(step, rise, start)
        return low + (peak - low) * (1 - (step - rise) / (iterations - rise - 1)) ** power

    return length, 50, rate


# Peaks are for the batch that the config is made for. Warm-ups of mmdet and mmseg count iterations.
EXPECTED = {
    'selfsup/a2mim_r50': cosine(1.2e-3, 300, 10, 1e-4, 1e-5),
    'selfsup/a2mim_r50_100e': cosine(1.2e-3, 100, 10, 1e-4, 1e-5),
    'selfsup/custom_folder': cosine(1.2e-3, 300, 10, 1e-4, 1e-5),
    'selfsup/a2mim_vit-s': cosine(8e-4, 300, 10, 1e-4, 1e-5),
    'selfsup/a2mim_vit-b': cosine(8e-4, 800, 10, 1e-4, 1e-5),
    'selfsup/demo_vit': cosine(1e-3, 30, 2, 1e-2, 1e-5),
    'selfsup/demo_resnet': cosine(1e-3, 30, 2, 1e-2, 1e-5),
    'selfsup/official/a2mim_r50': cosine(1.2e-3, 300, 10, 1e-6, 1e-5),
    'selfsup/official/a2mim_r50_100e': cosine(1.2e-3, 100, 10, 1e-6, 1e-5),
    'selfsup/official/a2mim_vit-s': steps(4e-4, 800, [700], 40, 2e-6),
    'selfsup/official/a2mim_vit-b': steps(4e-4, 800, [700], 40, 2e-6),
    'classification/custom_folders': cosine(8e-3, 100, 5, 1e-4, 1e-6),
    'classification/r50_a2mim_linear-100e': steps(30, 100, [60, 80]),
    'classification/r50_a2mim_rsb-a2_ft-300e': cosine(1.2e-2, 300, 5, 1e-4, 1e-6),
    'classification/r50_a2mim_rsb-a2_ft-300e_rsb-lr': cosine(5e-3, 300, 5, 1e-4, 1e-6),
    'classification/r50_a2mim_rsb-a3_ft-100e': cosine(8e-3, 100, 5, 1e-4, 1e-6),
    'classification/vit-b_a2mim_ft-100e': cosine(1e-3, 100, 5, 1e-4, 1e-6),
    'classification/vit-b_a2mim_linear-90e': cosine(6.4, 90, 10, 1e-4, 0),
    'classification/official/r50_a2mim_rsb-a2_ft-300e_official': cosine(5e-3, 300, 5, 1e-4, 1e-6),
    'classification/official/r50_a2mim_rsb-a3_ft-100e_official': cosine(8e-3, 100, 5, 1e-4, 1e-6),
    'classification/official/vit-b_a2mim_ft-100e_official': cosine(1e-2, 100, 20, 1e-6, 1e-6),
    'classification/official/vit-s_a2mim_ft-100e_official': cosine(1e-2, 100, 20, 1e-6, 1e-6),
    'classification/official/vit-s_a2mim_ft-200e_official': cosine(1e-2, 200, 20, 1e-6, 1e-6),
    'mmdet/custom_coco': steps(0.02, 12, [8, 11], 500, 1e-3, length=300),
    'mmdet/mask-rcnn_a2mim-r50-fpn_1x_coco': steps(0.02, 12, [8, 11], 500, 1e-3, length=300),
    'mmdet/mask-rcnn_a2mim-r50-c4_2x_coco': steps(0.02, 24, [16, 22], 1000, 1e-3, length=300),
    'mmdet/mask-rcnn_a2mim-vit-b-fpn_1x_coco': steps(1e-4, 12, [9, 11], 500, 1e-3, length=300),
    'mmseg/custom_masks': poly(0.01, 126_313, 0.9, 1e-4),
    'mmseg/upernet_a2mim-r50_100e_ade20k-512x512': poly(0.01, 126_313, 0.9, 1e-4),
    'mmseg/upernet_a2mim-vit-b_100e_ade20k-512x512': poly(1e-4, 126_313, 1, 0, 1500, 1e-6),
    'nuclei/pretrain_resnet18': cosine(1e-3, 12, 1, 1e-2, 1e-5),
    'nuclei/pretrain_vit-tiny': cosine(1e-3, 24, 1, 1e-2, 1e-5),
    'nuclei/mask-rcnn_resnet18-fpn': poly(3e-4, 400, 1, 0, 20, 1e-2),
    'nuclei/upernet_resnet18': poly(5e-4, 665, 1, 0, 20, 1e-2),
    'nuclei/upernet_vit-tiny': poly(5e-4, 665, 1, 0, 20, 1e-2),
}
for small, epochs in (('resnet18', 8), ('vit-tiny', 8), ('resnet50', 50), ('vit-small', 50)):
    finetune = cosine(5e-4, epochs, 1 if epochs == 8 else 5, 1e-2, 1e-6)
    pretrain = cosine(1e-3, 15, 1, 1e-2, 1e-5) if epochs == 8 else cosine(1e-3, 400, 20, 1e-2, 1e-5)
    EXPECTED[f'clothing/finetune_{small}'] = EXPECTED[f'clothing/finetune_{small}_10pct'] = finetune
    EXPECTED[f'clothing/pretrain_{small}'] = pretrain
    EXPECTED[f'clothing/linear_{small}'] = cosine(0.05, 15 if epochs == 8 else 50, 0, 1, 0)
    if epochs == 8:
        EXPECTED[f'clothing/pretrain_{small}_simmim'] = pretrain
for name in [name for name in EXPECTED if 'vit-b' in name and not name.startswith('selfsup/')]:
    EXPECTED.setdefault(name.replace('vit-b', 'vit-s'), EXPECTED[name])


def rates_of(cfg, length, count):
    """The lr at the start of each epoch of so many iterations, stepped as the Runner's hook does."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    optimizer.step()
    cfgs = cfg.param_scheduler if isinstance(cfg.param_scheduler, list) else [cfg.param_scheduler]
    built = [
        PARAM_SCHEDULERS.build({**one}, default_args=dict(optimizer=optimizer, epoch_length=length))
        for one in cfgs
    ]
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]['lr'])
        for _ in range(length):
            optimizer.step()
            for scheduler in built:
                if not scheduler.by_epoch:
                    scheduler.step()
        for scheduler in built:
            if scheduler.by_epoch:
                scheduler.step()
    return rates


def test_every_config_is_here():
    twins = {name for name in CONFIGS if '/scratch/' in name}  # differ in their start alone, see their test
    assert {*EXPECTED} == CONFIGS - twins


@pytest.mark.parametrize('name', EXPECTED)
def test_lr_of_every_epoch(name):
    cfg, (length, count, rate) = Config.fromfile(PROJECTS.get(name, FOLDER / f'{name}.py')), EXPECTED[name]
    if cfg.train_cfg.get('max_iters') is None and not name.startswith('nuclei/mask'):
        assert cfg.train_cfg.max_epochs == count
    expected = [rate(place) for place in range(count)]
    assert rates_of(cfg, length, count) == pytest.approx(expected, rel=1e-5, abs=1e-9 * max(expected))
