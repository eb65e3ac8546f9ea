"""A config is fitted to the machine: learning rate, precision, process group, BatchNorm."""

import copy

import pytest
import torch
from helpers.toy_training import ToyModel
from mmengine.config import Config
from mmengine.optim import OptimWrapper

from a2mim_mm.engine import machine
from a2mim_mm.engine.machine import AutocastOptimWrapper

A1 = dict(  # ResNet-50 in the paper's Table A1: 1.5e-4 per 256 images
    train_dataloader=dict(batch_size=256),
    optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.2e-3)),
    param_scheduler=[
        dict(type='LinearLR', start_factor=1e-4, end=10),
        dict(type='CosineAnnealingLR', eta_min=1e-5, begin=10),
        dict(type='CosineAnnealingMomentum', eta_min=0.85),
        dict(type='CosineAnnealingParamScheduler', param_name='lr', eta_min=2e-5),
    ],
    auto_scale_lr=dict(enable=True, base_batch_size=2048),
    amp_dtype='bfloat16',
)


@pytest.fixture
def cfg():
    return Config(copy.deepcopy(A1))


@pytest.fixture
def ranks(monkeypatch):
    """Sets the number of ranks."""
    return lambda count: monkeypatch.setattr(machine, 'get_world_size', lambda: count)


@pytest.fixture
def gpu(monkeypatch):
    """Pretends that there is a GPU, with or without bfloat16, or none."""

    def pretend(present, bfloat16=True):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: present)
        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation=True: bfloat16)

    return pretend


def rates(cfg):
    return cfg.optim_wrapper.optimizer.lr, [one.get('eta_min') for one in cfg.param_scheduler]


@pytest.mark.parametrize(
    ('count', 'images', 'accumulation', 'factor', 'text'),
    [
        (8, 256, 1, 1, '1.200e-03 = 1.500e-04 * 2048 / 256 (8 ranks x 256 images x 1 accumulation)'),
        (1, 64, 2, 1 / 16, '7.500e-05 = 1.500e-04 * 128 / 256 (1 ranks x 64 images x 2 accumulation)'),
    ],
)
def test_rates_follow_the_effective_batch_once(cfg, ranks, count, images, accumulation, factor, text):
    ranks(count)
    cfg.train_dataloader.batch_size = images
    cfg.optim_wrapper.accumulative_counts = accumulation
    assert machine.scale_lr(cfg) == f'lr {text}'
    scaled = [None, 1e-5 * factor, 0.85, 2e-5 * factor]
    assert rates(cfg) == (pytest.approx(1.2e-3 * factor), pytest.approx(scaled))
    assert cfg.param_scheduler[0].start_factor == 1e-4
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=count * images * accumulation)
    first = rates(cfg)
    assert 'auto_scale_lr is off' in machine.scale_lr(cfg) and rates(cfg) == first


@pytest.mark.parametrize('rule', [None, dict(enable=False, base_batch_size=16)])
def test_configs_that_do_not_ask_keep_their_rates(cfg, ranks, rule):
    ranks(2)
    cfg.auto_scale_lr = rule
    before = rates(cfg)
    assert machine.scale_lr(cfg) == (
        'lr as configured, for a batch of 512 (2 ranks x 256 images x 1 accumulation): auto_scale_lr is off'
    )
    assert rates(cfg) == before


def test_the_rule_needs_a_base(cfg):
    cfg.auto_scale_lr = dict(enable=True)
    with pytest.raises(ValueError, match='auto_scale_lr.base_batch_size'):
        machine.scale_lr(cfg)


@pytest.mark.parametrize(
    ('present', 'bfloat16', 'dtype', 'kind', 'amp', 'expected', 'word'),
    [
        (False, True, 'bfloat16', 'OptimWrapper', None, 'OptimWrapper', 'float32: there is no GPU'),
        (False, True, 'bfloat16', 'OptimWrapper', True, 'a2mim_mm.AutocastOptimWrapper', 'bfloat16'),
        (False, True, 'float16', 'OptimWrapper', True, 'a2mim_mm.AutocastOptimWrapper', 'bfloat16'),
        (False, True, None, 'AmpOptimWrapper', None, 'OptimWrapper', 'float32'),
        (False, True, None, 'OptimWrapper', None, 'OptimWrapper', 'as OptimWrapper has it'),
        (True, True, 'bfloat16', 'OptimWrapper', None, 'a2mim_mm.AutocastOptimWrapper', 'bfloat16'),
        (True, True, 'bfloat16', 'OptimWrapper', False, 'OptimWrapper', 'float32: --no-amp'),
        (True, False, 'bfloat16', 'OptimWrapper', None, 'AmpOptimWrapper', 'no bfloat16'),
        (True, True, 'float16', 'OptimWrapper', None, 'AmpOptimWrapper', 'float16 with loss scaling'),
        (True, True, None, 'AmpOptimWrapper', None, 'AmpOptimWrapper', 'as AmpOptimWrapper has it'),
        (True, True, None, 'OptimWrapper', True, 'a2mim_mm.AutocastOptimWrapper', 'bfloat16'),
        (True, True, None, 'AmpOptimWrapper', False, 'OptimWrapper', 'float32'),
    ],
)
def test_precision_fits_the_machine(cfg, gpu, present, bfloat16, dtype, kind, amp, expected, word):
    gpu(present, bfloat16)
    cfg.amp_dtype = dtype
    cfg.optim_wrapper.type = kind
    if kind == 'AmpOptimWrapper':
        cfg.optim_wrapper.loss_scale = 'dynamic'
    note = machine.set_precision(cfg, amp)
    assert cfg.optim_wrapper.type == expected
    assert word in note
    assert ('loss_scale' in cfg.optim_wrapper) == ('AmpOptimWrapper has it' in note)
    assert cfg.optim_wrapper.get('dtype') == ('float16' if 'loss scaling' in note else None)


def test_precision_refuses_what_it_cannot_set(cfg):
    cfg.optim_wrapper.type = 'ApexOptimWrapper'
    assert 'ApexOptimWrapper' in machine.set_precision(cfg)
    with pytest.raises(ValueError, match="got 'ApexOptimWrapper'"):
        machine.set_precision(cfg, amp=True)
    cfg.amp_dtype = 'half'
    with pytest.raises(ValueError, match="amp_dtype must be .* got 'half'"):
        machine.set_precision(cfg)


def test_detectors_never_train_in_bfloat16(cfg, gpu):
    cfg.default_scope = 'mmdet'
    for present, amp, dtype in ((False, True, None), (False, True, 'float16'), (True, None, 'bfloat16')):
        gpu(present, True)
        cfg.amp_dtype = dtype
        with pytest.raises(ValueError, match='RoIAlign has no bfloat16'):
            machine.set_precision(cfg, amp)
    cfg.amp_dtype = None
    assert 'float16 with loss scaling' in machine.set_precision(cfg, amp=True)


def test_autocast_wrapper_trains_in_bfloat16_with_float32_weights():
    model = ToyModel()
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    before = model.encoder.weight.detach().clone()
    wrapper = AutocastOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=2
    )
    wrapper.initialize_count_status(model, 0, 4)
    for step in (1, 2):
        model.train_step(dict(inputs=images), wrapper)
        assert model.last_dtype == torch.bfloat16
        assert torch.equal(model.encoder.weight, before) == (step == 1)
    assert model.encoder.weight.dtype == torch.float32
    model.train_step(dict(inputs=images), OptimWrapper(optimizer=wrapper.optimizer))
    assert model.last_dtype == torch.float32


def test_sync_bn_becomes_bn_without_a_gpu(gpu):
    cfg = Config(
        dict(
            model=dict(
                backbone=dict(norm_cfg=dict(type='SyncBN', requires_grad=True)),
                heads=[dict(norm_cfg=dict(type='SyncBN')), dict(norm_cfg=dict(type='LN'))],
            ),
            sync_bn='torch',
            train_dataloader=dict(batch_size=2, pin_memory=True),
        )
    )
    gpu(True)
    untouched = copy.deepcopy(cfg.to_dict())
    assert machine.fit_to_cpu(cfg) is None and cfg.to_dict() == untouched
    gpu(False)
    assert machine.fit_to_cpu(cfg) == 'SyncBN became BN (2 places in the config): SyncBN needs a GPU'
    assert cfg.model.backbone.norm_cfg == dict(type='BN', requires_grad=True)
    assert [head.norm_cfg.type for head in cfg.model.heads] == ['BN', 'LN']
    assert 'sync_bn' not in cfg and cfg.train_dataloader == dict(batch_size=2)
    assert machine.fit_to_cpu(cfg) is None
