"""Every pre-training config builds and runs, and its numbers are the paper's.

They are typed from the paper (Section 5.1, Table A1, Appendix A.1); those of configs/selfsup/official from
the authors' released code. Rates, warm-up and epochs: see test_schedules.py.
"""

import pytest
import torch
from helpers.configs import PROJECTS, build, changes, decays, names, outline, rates_of, read, steps_of
from mmengine.runner import Runner

R50, VIT_S, VIT_B = 'selfsup/a2mim_r50', 'selfsup/a2mim_vit-s', 'selfsup/a2mim_vit-b'
# Those left out have the model and the images of another one, but for width and depth: see test_files.py, and
# test_zoo.py.
LEFT_OUT = (
    '_100e',
    'custom_folder',
    'custom_channels',
    'continue_from',
    'cifar100',
    'vit-b',
    'vit-l',
    'r101',
    'r152',
    'r200',
    'convnext-s',
    'convnext-b',
)
PATTERNS = ('selfsup/*', 'selfsup/cifar/*', 'selfsup/official/*')
TRAINED = [name for pattern in PATTERNS for name in names(pattern) if not name.endswith(LEFT_OUT)]
NUCLEI = [name for name in PROJECTS if name.startswith('nuclei/pretrain')]
# Where the token goes, counted from 1 (Section 5.1), the width there, the size of the backbone in million
# parameters, and clipping (Table A1)
PAPER = {
    R50: ('stage', 3, 1024, 23.5, None),
    VIT_S: ('layer', 5, 384, 21.7, 5.0),
    VIT_B: ('layer', 8, 768, 85.8, 5.0),
}


@pytest.mark.parametrize('name', TRAINED + NUCLEI)
def test_trains_on_photos(name, sample_photos):
    """The config's own model, at full size, on its own pipeline: one step back from the loss."""
    cfg = read(name)
    model, loader_cfg = build(cfg), cfg.train_dataloader
    loader_cfg.dataset.data_root = str(sample_photos)
    loader_cfg.update(batch_size=1, num_workers=0, persistent_workers=False)
    batch = next(iter(Runner.build_dataloader(loader_cfg, seed=0)))
    losses = model(**model.data_preprocessor(batch), mode='loss')
    assert set(losses) == {'loss_spa', 'loss_freq'} - ({'loss_freq'} if 'convnext' in name else set())
    sum(losses.values()).backward()
    # Under DDP a parameter without a gradient ends the training.
    assert [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert model.mask_token.token.grad.abs().sum() > 0


@pytest.mark.parametrize('name', PAPER)
def test_numbers_are_those_of_table_a1(name):
    cfg = read(name)
    crop, optimizer = steps_of(cfg.train_dataloader)['RandomResizedCrop'], cfg.optim_wrapper.optimizer
    assert (crop.scale, crop.crop_ratio_range) == (224, (0.67, 1.0))
    assert (cfg.model.mask.type, cfg.model.mask.patch_size) == ('a2mim_mm.RandomPatchMask', 32)
    assert (cfg.model.mask.ratio, cfg.model.fill, cfg.model.head.lambda_freq) == (0.6, 'mean', 0.5)
    assert cfg.model.head.loss_spa == dict(type='a2mim_mm.PixelL1Loss')
    assert cfg.model.neck.type == 'a2mim_mm.LinearDecoder'
    assert cfg.model.head.loss_freq == dict(type='a2mim_mm.FocalFrequencyLoss', alpha=1.0)
    numbers = (optimizer.type, optimizer.weight_decay, optimizer.betas)
    assert numbers == ('AdamW', 0.05, (0.9, 0.999))
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 2048
    assert cfg.auto_scale_lr.enable
    assert cfg.optim_wrapper.get('clip_grad', {}).get('max_norm') == PAPER[name][-1]


@pytest.mark.parametrize('name', PAPER)
def test_token_sits_where_the_paper_puts_it(name):
    kind, number, width, millions, _ = PAPER[name]
    cfg = read(name)
    model = outline(cfg)
    backbone = model.backbone
    # Counted on the backbone itself, not found by the name in the config.
    stages = (
        [getattr(backbone, layer) for layer in backbone.res_layers] if kind == 'stage' else backbone.layers
    )
    assert dict(backbone.named_modules())[cfg.model.mask_token.site] is stages[number - 1]
    assert len(model.mask_token.token) == width
    assert cfg.model.mask_token.mode == 'add' and model.mask_token.gate is None
    without_tables = [p.numel() for key, p in backbone.named_parameters() if 'relative_position' not in key]
    assert sum(without_tables) / 1e6 == pytest.approx(millions, abs=0.2)
    assert kind == 'stage' or backbone.layers[0].attn.relative_position_bias_table.shape[0] == 27 * 27 + 3
    img_b3hw = torch.empty(1, 3, 224, 224, device='meta')
    assert model.neck(backbone(img_b3hw)[-1]).shape == img_b3hw.shape


@pytest.mark.parametrize('name', [R50, VIT_S])
def test_only_matrices_decay(name):
    cfg = read(name)
    model = outline(cfg)
    for key, rate in rates_of(cfg, model).items():
        assert rate == (cfg.optim_wrapper.optimizer.lr, 0.05 if decays(model, key) else 0), key


@pytest.mark.parametrize('name', [R50, VIT_S])
def test_training_starts_from_small_weights_and_zero_biases(name):
    model = build(read(name))
    model.init_weights()
    started = {
        key for key, _ in model.named_parameters() if name == VIT_S or key.startswith(('neck.', 'mask_'))
    }
    for key in started:
        param = model.get_parameter(key)
        if key.endswith('bias') or 'relative_position' in key:
            assert not param.any(), key
        elif '.ln' not in key:
            tolerance = 0.1 + 3 / param.numel() ** 0.5
            assert param.std().item() == pytest.approx(0.02, rel=tolerance) and param.abs().max() <= 0.1, key
    assert {'neck.decoder.0.weight', 'mask_token.token'} < started


OFFICIAL_LOSS = {
    f'model.head.loss_freq.{key}': value
    for key, value in dict(
        squared=True, batch_spectrum=True, log_weight=True, normalize='batch', target_share=0.5
    ).items()
}


def test_official_resnet():
    found = changes('selfsup/official/a2mim_r50', R50)
    rest = {
        'model.head.loss_freq.leak': 1e-3,
        'model.head.loss_spa.type': 'a2mim_mm.FocalL1Loss',
        'model.head.loss_spa.beta': 0.2,
        'model.backbone.norm_cfg.type': 'SyncBN',
        'model.backbone.zero_init_residual': True,
        'model.mask_token.gate_init': 1e-6,
        'train_dataloader.dataset.pipeline.1.crop_ratio_range': (0.8, 1.0),
        'test_dataloader.dataset.pipeline.1.crop_ratio_range': (0.8, 1.0),
        'amp_dtype': None,
    }
    schedule = ('optim_wrapper.', 'param_scheduler.')  # see the next test, and test_schedules.py
    assert {
        key: value for key, value in found.items() if not key.startswith(schedule)
    } == OFFICIAL_LOSS | rest


@pytest.mark.parametrize(('name', 'gate'), [('a2mim_r50_100e', (0.1, 0.0)), ('a2mim_r50', (1, 0.05))])
def test_official_rates_of_resnet(name, gate):
    """Token, gate, and the norms of the downsamplings, which the authors' rule for norms misses."""
    cfg = read(f'selfsup/official/{name}')
    model = outline(cfg)
    lr = cfg.optim_wrapper.optimizer.lr
    got = {key: (rate / lr, decay) for key, (rate, decay) in rates_of(cfg, model).items()}
    assert got.pop('mask_token.token') == pytest.approx((0.1, 0.0))
    assert got.pop('mask_token.gate') == pytest.approx(gate)
    missed = [key for key in got if 'downsample.1.weight' in key]
    assert len(missed) == 4
    for key, rate in got.items():
        assert rate == (1, 0.05 if key in missed or decays(model, key) else 0), key


def test_official_vits():
    found = changes('selfsup/official/a2mim_vit-b', VIT_B)
    rest = {
        'model.backbone.drop_path_rate': 0.1,
        'model.backbone.layer_scale_init_value': 0.1,
        'model.head.lambda_freq': 0.1,
        'model.mask_token.site': 'patch_embed',
        'amp_dtype': None,
        'train_dataloader.batch_size': 128,
        'optim_wrapper.optimizer.lr': 4e-4,
        'optim_wrapper.accumulative_counts': 2,
    }
    assert {
        key: value for key, value in found.items() if 'param_scheduler' not in key
    } == OFFICIAL_LOSS | rest
    small = outline(read('selfsup/official/a2mim_vit-s')).backbone
    assert (small.embed_dims, len(small.layers), small.arch_settings['num_heads']) == (768, 8, 8)
