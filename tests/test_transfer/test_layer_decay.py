"""Learning rate and weight decay of every parameter, by its name; depths are typed here, not asked for."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.models import ImageClassifier
from torch import nn

from a2mim_mm.backbones.vit import A2MIMViT
from a2mim_mm.engine.machine import fit_to_cpu

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SHIPPED = {
    'mmdet/mask-rcnn_a2mim-vit-{}-fpn_1x_coco.py': 0.75,
    'mmseg/upernet_a2mim-vit-{}_100e_ade20k-512x512.py': 0.65,
}
BASE_LR, WEIGHT_DECAY, DECAY = 0.3, 0.05, 0.5
OURS, MMPRETRAINS = (
    'a2mim_mm.LayerDecayOptimWrapperConstructor',
    'mmpretrain.LearningRateDecayOptimWrapperConstructor',
)
VIT = dict(
    type='a2mim_mm.A2MIMViT',
    arch=dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16),
    img_size=8,
    patch_size=4,
    layer_scale_init_value=0.1,  # gives parameters that are flat, but neither norm nor bias
)
SPECIAL = ('cls_token', 'pos_embed', 'relative_position_bias_table')
# Depth of each parameter outside the layers, of which N has N + 1; with the three layers there are 5 depths.
DEPTHS = {
    'backbone.cls_token': 0,
    'backbone.pos_embed': 0,
    'backbone.patch_embed.projection.weight': 0,
    'backbone.patch_embed.projection.bias': 0,
    'backbone.relative_position_bias_table': 0,
    'backbone.ln1.weight': 4,
    'backbone.ln1.bias': 4,
    'head.0.weight': 4,
    'head.0.bias': 4,
    'head.1.weight': 4,
    'head.1.bias': 4,
    'scale': 4,
}


class Toy(nn.Module):
    """What the constructor needs of a detector: a backbone, and something else."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 2))
        self.scale = nn.Parameter(torch.ones(3))


def toy(**kwargs):
    return Toy(MODELS.build(dict(VIT, **kwargs)))


def optim_wrapper_cfg(constructor=OURS):
    return dict(
        constructor=constructor,
        optimizer=dict(type='AdamW', lr=BASE_LR, weight_decay=WEIGHT_DECAY),
        paramwise_cfg=dict(
            layer_decay_rate=DECAY,
            norm_decay_mult=0.0,
            bias_decay_mult=0.0,
            flat_decay_mult=0.0,
            custom_keys={name: dict(decay_mult=0.0) for name in SPECIAL},
        ),
    )


def settings_of(model, cfg):
    """(lr, weight decay) of each parameter, by its name; each is in the optimizer once."""
    name_of = {id(param): name for name, param in model.named_parameters()}
    groups = build_optim_wrapper(model, cfg).optimizer.param_groups
    found = [
        (name_of[id(p)], (group['lr'], group['weight_decay'])) for group in groups for p in group['params']
    ]
    assert len(found) == len(dict(found))
    return dict(found)


@pytest.mark.parametrize('rel_pos_bias', ['layer', 'shared', None])
def test_lr_of_every_parameter(rel_pos_bias):
    model = toy(rel_pos_bias=rel_pos_bias)
    settings = settings_of(model, optim_wrapper_cfg())
    assert set(settings) == {name for name, _ in model.named_parameters()}
    for name, (lr, _) in settings.items():
        layer = name.removeprefix('backbone.layers.')
        depth = DEPTHS[name] if layer == name else {'0': 1, '1': 2, '2': 3}[layer.split('.')[0]]
        assert lr == pytest.approx(BASE_LR * DECAY ** (5 - depth - 1)), name
    assert {lr for lr, _ in settings.values()} == {0.3, 0.15, 0.075, 0.0375, 0.01875}


@pytest.mark.parametrize('rel_pos_bias', ['layer', 'shared'])
def test_only_matrices_decay(rel_pos_bias):
    model = toy(rel_pos_bias=rel_pos_bias)
    settings = settings_of(model, optim_wrapper_cfg())
    decayed = {name for name, (_, weight_decay) in settings.items() if weight_decay == WEIGHT_DECAY}
    layer = ('attn.qkv.weight', 'attn.proj.weight', 'ffn.layers.0.0.weight', 'ffn.layers.1.weight')
    assert decayed == {
        'backbone.patch_embed.projection.weight',
        *(f'backbone.layers.{i}.{name}' for i in range(3) for name in layer),
        'head.1.weight',
    }
    assert {weight_decay for name, (_, weight_decay) in settings.items() if name not in decayed} == {0}


@pytest.mark.parametrize('rel_pos_bias', ['layer', 'shared', None])
def test_equals_mmpretrain_on_a_classifier(rel_pos_bias):
    backbone = dict(VIT, rel_pos_bias=rel_pos_bias)
    model = ImageClassifier(
        backbone, head=dict(type='mmpretrain.LinearClsHead', num_classes=2, in_channels=8)
    )
    settings = settings_of(model, optim_wrapper_cfg())
    assert len(set(settings.values())) > 5
    assert settings == settings_of(model, optim_wrapper_cfg(MMPRETRAINS))


def test_frozen_parameters_are_left_out():
    model = toy(frozen_stages=1)
    settings = settings_of(model, optim_wrapper_cfg())
    frozen = {name for name, param in model.named_parameters() if not param.requires_grad}
    assert 'backbone.layers.0.attn.qkv.weight' in frozen
    assert set(settings) == {name for name, _ in model.named_parameters()} - frozen


@pytest.mark.parametrize(
    'backbone',
    [dict(type='mmpretrain.ResNet', depth=18), dict(type='a2mim_mm.TimmBackbone', model_name='resnet18')],
)
def test_a_backbone_without_depths_has_those_of_its_blocks(backbone):
    """mmpretrain's ResNet knows those of ResNet-50 only, and timm's knows none. ResNet-18 has 8 blocks."""
    model = Toy(MODELS.build(backbone))
    rates = {name: rate for name, (rate, _) in settings_of(model, optim_wrapper_cfg()).items()}
    depths = {
        'conv1.weight': 0,
        'bn1.bias': 0,
        'layer1.0.conv1.weight': 1,
        'layer1.1.bn2.weight': 2,
        'layer2.0.downsample.0.weight': 3,
        'layer4.1.conv2.weight': 8,
    }
    for name, depth in depths.items():
        assert rates[f'backbone.{name}'] == pytest.approx(BASE_LR * DECAY ** (9 - depth)), name
    assert rates['head.1.weight'] == rates['scale'] == BASE_LR


def test_a_parameter_of_a_block_itself_has_its_depth():
    model = Toy(MODELS.build(dict(type='a2mim_mm.TimmBackbone', model_name='convnext_atto')))
    rates = {name: rate for name, (rate, _) in settings_of(model, optim_wrapper_cfg()).items()}
    block = 'backbone.stages.1.blocks.0'
    assert (
        rates[f'{block}.gamma']
        == rates[f'{block}.conv_dw.weight']
        == 2 * rates['backbone.stages.0.blocks.1.gamma']
    )


def test_refuses_a_model_without_a_backbone():
    with pytest.raises(ValueError, match='a model with a backbone, not a Linear'):
        build_optim_wrapper(nn.Linear(3, 8), optim_wrapper_cfg())


def test_all_configs_with_a_vit_decay():
    found = {str(path.relative_to(CONFIGS)) for path in CONFIGS.glob('mm*/*vit*.py')}
    assert found == {name.format(size) for name in SHIPPED for size in 'sb'}
    for name, decay in SHIPPED.items():
        settings = [Config.fromfile(CONFIGS / name.format(size)).optim_wrapper for size in 'sb']
        assert settings[0] == settings[1] and settings[0].paramwise_cfg.layer_decay_rate == decay


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_configs(name):
    library = name.split('/')[0]
    pytest.importorskip('mmcv._ext', reason=f'{library} needs the compiled ops of mmcv')
    pytest.importorskip(library)
    cfg = Config.fromfile(CONFIGS / name.format('s'))
    fit_to_cpu(cfg)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):  # names and shapes are enough
        model = MODELS.build(cfg.model)
    assert isinstance(model.backbone, A2MIMViT)
    settings = settings_of(model, cfg.optim_wrapper)
    assert set(settings) == {name for name, param in model.named_parameters() if param.requires_grad}
    seen = set()
    for param_name, param in model.named_parameters():
        part, *rest = param_name.split('.')
        depth = 13
        if part == 'backbone' and rest[0] in ('cls_token', 'pos_embed', 'patch_embed'):
            depth = 0
        elif part == 'backbone' and rest[0] == 'layers':
            depth = int(rest[1]) + 1
        decays = param.ndim > 1 and not param_name.endswith(SPECIAL)
        expected = (1e-4 * SHIPPED[name] ** (13 - depth), 0.05 if decays else 0)
        assert settings[param_name] == pytest.approx(expected, rel=1e-9), param_name
        seen.add((part, depth))
    assert {depth for _, depth in seen} == set(range(14))
    assert {part for part, depth in seen if depth == 13} > {'backbone', 'neck'}
