"""Every pre-training config builds and runs, and its numbers are the paper's.

The tables are typed from the paper (Section 5.1, Table A1, Appendix A.1), not read from the code.
"""

import copy
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from a2mim_mm.models import A2MIM
from a2mim_mm.registry import MODELS

FOLDER = Path(__file__).resolve().parents[1] / 'configs'
SHIPPED = sorted(
    os.path.relpath(path, FOLDER)
    for path in (*FOLDER.glob('selfsup/**/*.py'), *FOLDER.glob('../projects/nuclei/configs/pretrain_*.py'))
)

# Table A1: the same for ResNet-50 and ViTs
RESOLUTION, MASK_PATCH, BATCH, WARMUP, WEIGHT_DECAY, BETAS = 224, 32, 2048, 10, 0.05, (0.9, 0.999)
# Epochs (Tables 1, 2), base lr per 256 images and clipping (Table A1), where the token goes, counted from 1
# (Section 5.1), the width there, and the size of the backbone in million parameters.
PAPER = {
    'selfsup/a2mim_r50.py': (300, 1.5e-4, None, ('stage', 3), 1024, 23.5),
    'selfsup/a2mim_r50_100e.py': (100, 1.5e-4, None, ('stage', 3), 1024, 23.5),
    'selfsup/a2mim_vit-s.py': (300, 1e-4, 5.0, ('layer', 5), 384, 21.7),
    'selfsup/a2mim_vit-b.py': (800, 1e-4, 5.0, ('layer', 8), 768, 85.8),
}


def read(name: str) -> Config:
    return Config.fromfile(FOLDER / name)


def step_of(cfg: Config, kind: str) -> dict:
    (step,) = (step for step in cfg.train_dataloader.dataset.pipeline if step.type == kind)
    return step


def build(cfg: Config) -> A2MIM:
    init_default_scope(cfg.default_scope)
    return MODELS.build(dict(copy.deepcopy(cfg.model), data_preprocessor=cfg.data_preprocessor))


@pytest.mark.parametrize('name', SHIPPED)
def test_trains_on_photos(name, sample_photos):
    """The config's own model, at full size, on its own pipeline: one step back from the loss."""
    cfg = read(name)
    model = build(cfg)
    loader_cfg = cfg.train_dataloader
    loader_cfg.dataset.data_root = str(sample_photos)
    loader_cfg.update(batch_size=1, num_workers=0, persistent_workers=False, pin_memory=False)
    for module in model.modules():
        if isinstance(module, torch.nn.SyncBatchNorm):
            module.eval()  # trains on GPUs only
    losses = model(
        **model.data_preprocessor(next(iter(Runner.build_dataloader(loader_cfg, seed=0)))), mode='loss'
    )
    assert set(losses) == {'loss_spa', 'loss_freq'}
    sum(losses.values()).backward()
    # Under DDP a parameter without a gradient ends the training.
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert model.mask_token.token.grad.abs().sum() > 0


@pytest.mark.parametrize('name', PAPER)
def test_numbers_are_those_of_table_a1(name):
    epochs, base_lr, clip, _, _, _ = PAPER[name]
    cfg = read(name)
    crop = next(
        step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'a2mim_mm.RandomResizedCrop'
    )
    assert crop.scale == RESOLUTION
    assert tuple(crop.crop_ratio_range) == (0.67, 1.0)
    assert cfg.model.mask.patch_size == MASK_PATCH
    assert cfg.model.mask.ratio == 0.6
    assert cfg.model.head.lambda_freq == 0.5
    assert cfg.model.fill == 'mean'

    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.type == 'AdamW'
    assert optimizer.lr == pytest.approx(base_lr * BATCH / 256)
    assert optimizer.weight_decay == WEIGHT_DECAY
    assert tuple(optimizer.betas) == BETAS
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == BATCH
    assert cfg.auto_scale_lr.enable
    assert (cfg.optim_wrapper.get('clip_grad') or {}).get('max_norm') == clip

    assert cfg.train_cfg.max_epochs == epochs
    warmup, cosine = cfg.param_scheduler
    assert (warmup.type, warmup.begin, warmup.end) == ('LinearLR', 0, WARMUP)
    assert (cosine.type, cosine.begin, cosine.end) == ('CosineAnnealingLR', WARMUP, epochs)
    assert cosine.T_max == epochs - WARMUP
    assert all(schedule.by_epoch and schedule.convert_to_iter_based for schedule in cfg.param_scheduler)


@pytest.mark.parametrize('name', PAPER)
def test_token_sits_where_the_paper_puts_it(name):
    _, _, _, (kind, number), width, millions = PAPER[name]
    cfg = read(name)
    model = build(cfg)
    backbone = model.backbone
    # Counted on the backbone itself, not found by the name in the config.
    stages = (
        [getattr(backbone, layer) for layer in backbone.res_layers] if kind == 'stage' else backbone.layers
    )
    assert dict(backbone.named_modules())[cfg.model.mask_token.site] is stages[number - 1]
    assert len(model.mask_token.token) == width
    assert cfg.model.mask_token.mode == 'add'
    assert model.mask_token.gate is None
    without_tables = [p.numel() for n, p in backbone.named_parameters() if 'relative_position' not in n]
    assert sum(without_tables) / 1e6 == pytest.approx(millions, abs=0.2)


@pytest.mark.parametrize('name', ['selfsup/a2mim_r50.py', 'selfsup/a2mim_vit-s.py'])
def test_no_decay_on_what_is_no_matrix(name):
    cfg = read(name)
    model = build(cfg)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decayed = {id(p) for group in optimizer.param_groups if group['weight_decay'] for p in group['params']}
    assert {group['weight_decay'] for group in optimizer.param_groups} == {0.0, WEIGHT_DECAY}
    for param_name, param in model.named_parameters():
        special = any(
            word in param_name for word in ('cls_token', 'pos_embed', 'relative_position_bias_table')
        )
        assert (id(param) in decayed) == (param.ndim > 1 and not special), param_name


# What the authors' code did: model, lr at batch 2048, lambda, token site, gate, crop (see the files' heads).
OFFICIAL = {
    'a2mim_r50.py': (300, 1.2e-3, 0.5, 'layer3', 1e-6, 0.8, 1e-3),
    'a2mim_r50_100e.py': (100, 1.2e-3, 0.5, 'layer3', 1e-6, 0.8, 1e-3),
    'a2mim_vit-s.py': (800, 4e-4, 0.1, 'patch_embed', None, 0.67, 0.0),
    'a2mim_vit-b.py': (800, 4e-4, 0.1, 'patch_embed', None, 0.67, 0.0),
}


@pytest.mark.parametrize('name', OFFICIAL)
def test_official_presets(name):
    epochs, lr, lambda_freq, site, gate, crop_scale, leak = OFFICIAL[name]
    cfg = read(f'selfsup/official/{name}')
    crop = next(
        step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'a2mim_mm.RandomResizedCrop'
    )
    assert crop.crop_ratio_range[0] == crop_scale
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(lr)
    assert cfg.model.head.lambda_freq == lambda_freq
    assert cfg.model.mask_token.site == site
    assert cfg.model.mask_token.get('gate_init') == gate
    loss = cfg.model.head.loss_freq
    assert loss.squared and loss.batch_spectrum and loss.log_weight
    assert (loss.normalize, loss.target_share, loss.get('leak', 0.0)) == ('batch', 0.5, leak)


def test_official_vit_small_is_the_wide_one():
    backbone = build(read('selfsup/official/a2mim_vit-s.py')).backbone
    assert (backbone.embed_dims, len(backbone.layers), backbone.arch_settings['num_heads']) == (768, 8, 8)
    assert backbone.layers[0].attn.gamma1.weight[0].item() == pytest.approx(0.1)
    assert backbone.layers[-1].ffn.dropout_layer.drop_prob == pytest.approx(0.1)


@pytest.mark.parametrize(('name', 'gate'), [('a2mim_r50_100e.py', (0.1, 0.0)), ('a2mim_r50.py', (1, 0.05))])
def test_official_rates_of_resnet(name, gate):
    """Token, gate, and the norms of the downsamplings, which the authors' rule for norms misses."""
    cfg = read(f'selfsup/official/{name}')
    model = build(cfg)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    lr = cfg.optim_wrapper.optimizer.lr
    rates = {id(p): (group['lr'] / lr, group['weight_decay']) for group in groups for p in group['params']}
    got = {name: rates[id(param)] for name, param in model.named_parameters()}
    assert got['mask_token.token'] == pytest.approx((0.1, 0.0))
    assert got['mask_token.gate'] == pytest.approx(gate)
    decayed_norms = [name for name in got if 'downsample.1.weight' in name]
    assert len(decayed_norms) == 4
    for name, param in model.named_parameters():
        if 'mask_token' not in name:
            decays = param.ndim > 1 or name in decayed_norms
            assert got[name] == pytest.approx((1, WEIGHT_DECAY if decays else 0.0)), name


@pytest.mark.parametrize(
    ('name', 'images', 'accumulation'),
    [('a2mim_vit-b.py', 128, 2), ('a2mim_vit-s.py', 256, 1), ('a2mim_r50.py', 256, 1)],
)
def test_official_batch_and_precision(name, images, accumulation):
    cfg = read(f'selfsup/official/{name}')
    assert cfg.train_dataloader.batch_size == images
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == accumulation
    assert 8 * images * accumulation == BATCH and cfg.amp_dtype is None


@pytest.mark.parametrize(
    'name', ['selfsup/a2mim_r50.py', 'selfsup/a2mim_vit-s.py', 'selfsup/official/a2mim_vit-s.py']
)
def test_training_starts_from_small_weights_and_zero_biases(name):
    model = build(read(name))
    model.init_weights()
    std = {key: param.std().item() for key, param in model.named_parameters() if param.numel() > 100}
    started = [key for key in std if key.startswith(('neck.', 'mask_token.')) or 'vit' in name]
    for key in started:
        param = model.get_parameter(key)
        if key.endswith('bias') or 'relative_position' in key:
            assert not param.any(), key
        elif 'gamma' not in key and '.ln' not in key:
            tolerance = 0.1 + 3 / param.numel() ** 0.5
            assert std[key] == pytest.approx(0.02, rel=tolerance) and param.abs().max() <= 0.1, key
    assert 'neck.decoder.0.weight' in started
    if 'vit' in name:
        assert {'backbone.cls_token', 'backbone.layers.0.attn.qkv.weight'} <= {*started}
