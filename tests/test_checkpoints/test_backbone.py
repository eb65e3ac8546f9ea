"""A backbone is filled from a checkpoint completely, or not at all."""

import re

import pytest
import torch
import torchvision
from helpers.toy_transfer import RESNET, VIT
from mmengine.config import Config
from mmpretrain.models import ResNet, VisionTransformer
from safetensors.torch import save_file
from torch import nn

from a2mim_mm.backbones import A2MIMViT, WindowedA2MIMViT
from a2mim_mm.checkpoints.backbone import check_same_network, differing_images, read_pretrained
from a2mim_mm.checkpoints.errors import CheckpointError
from a2mim_mm.transfer import ResLayerExtraNorm

STAGES_123 = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
C4 = dict(parts=('backbone', 'roi_head.shared_head'), fresh_params=('norm.',))
OTHERS = {
    'neck.decode.weight': torch.zeros(3),
    'mask_token.token': torch.zeros(3),
    'head.fc.weight': torch.zeros(3),
}


class Parts(nn.Module):
    """A model that is nothing but its sub-modules."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def randomised(module, seed=0):
    """The module with a number of its own everywhere: the zeros and ones of norms and tables look alike."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1.0, generator=generator)
        else:
            tensor.fill_(seed + 7)
    return module


def vit(seed=0, arch=(), **changes):
    """A2MIMViT: 3 layers, 24 wide, 2 heads, a grid of 4 x 4."""
    settings = {**VIT, 'arch': {**VIT['arch'], **dict(arch)}, **changes}
    kind = WindowedA2MIMViT if 'window_size' in changes else A2MIMViT
    return randomised(kind(**{key: value for key, value in settings.items() if key != 'type'}), seed)


def resnet(depth, seed=0, **changes):
    """A ResNet of 8 channels."""
    narrow = {key: RESNET[key] for key in ('stem_channels', 'base_channels')}
    return randomised(ResNet(depth, **narrow, **changes), seed)


def pretrained(backbone):
    """What training writes, in short: encoder, decoder, mask token, and a head."""
    encoder = {f'backbone.{name}': value for name, value in backbone.state_dict().items()}
    return dict(meta=dict(epoch=1), state_dict={**encoder, **OTHERS})


def same(module, weights):
    """Whether a module holds exactly these weights."""
    held = module.state_dict()
    return held.keys() == weights.keys() and all(torch.equal(held[name], weights[name]) for name in held)


def row(text, title):
    """Number and names in a row of the table."""
    count, names = re.search(rf'^  {title} +(\d+)  (.*)$', text, re.MULTILINE).groups()
    return int(count), names


def problem(message, title):
    """Number and names of a reason that the first line gives."""
    count, names = re.search(rf'[:;] (\d+) {title} \(([^)]*)\)', message.partition('\n')[0]).groups()
    return int(count), names


def without(weights, *names):
    return {name: value for name, value in weights.items() if name not in names}


@pytest.fixture
def load(tmp_path):
    """Saves a checkpoint, fills a model from it, and returns the table."""

    def load_from(content, model, name='x.pth', **kwargs):
        (save_file if name.endswith('safetensors') else torch.save)(content, tmp_path / name)
        return read_pretrained(tmp_path / name, **kwargs).load_into(model)

    return load_from


@pytest.fixture(scope='module')
def resnet50():
    """A plain state dict with names that others gave: torchvision's."""
    return randomised(torchvision.models.resnet50(weights=None)).state_dict()


@pytest.mark.parametrize('build', [lambda seed: resnet(18, seed), vit], ids=['resnet', 'vit'])
def test_checkpoint_of_pretraining_fills_the_backbone_and_nothing_else(load, build):
    source, head = build(seed=1), randomised(nn.Linear(2, 2))
    model = Parts(backbone=build(seed=2), head=Parts(fc=head))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    table = load(pretrained(source), model)
    assert same(model.backbone, source.state_dict()) and same(head, before)
    count, names = row(table, 'loaded')
    assert count == len(source.state_dict()) and names.startswith('backbone.')
    assert row(table, 'left over') == (3, 'neck.decode.weight, mask_token.token, head.fc.weight')
    for title in ('resampled', 'new', 'not in the checkpoint', 'of another shape'):
        assert row(table, title) == (0, '')
    assert 'x.pth' in table


@pytest.mark.parametrize(
    ('wrap', 'name'),
    [
        (lambda weights: weights, 'x.pth'),
        (lambda weights: weights, 'x.safetensors'),
        (lambda weights: dict(state_dict=weights), 'x.pth'),
        (lambda weights: {f'module.{key}': value for key, value in weights.items()}, 'x.pth'),
        (lambda weights: {f'module.backbone.{key}': value for key, value in weights.items()}, 'x.pth'),
        (lambda weights: {f'backbone.{key}': value for key, value in weights.items()}, 'x.safetensors'),
        (lambda weights: {**weights, 'mask_token': torch.zeros(1)}, 'x.pth'),
    ],
    ids=['plain', 'safetensors', 'nested', 'module', 'module.backbone', 'backbone.safetensors', 'mask_token'],
)
def test_forms_of_a_checkpoint(load, wrap, name):
    source, model = vit(seed=1), Parts(backbone=vit(seed=2))
    table = load(wrap(dict(source.state_dict())), model, name)
    assert same(model.backbone, source.state_dict())
    assert row(table, 'loaded')[0] == len(source.state_dict())


@pytest.mark.parametrize('rel_pos_bias', ['layer', 'shared'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_another_input_size_and_precision(load, rel_pos_bias, dtype):
    weights = {
        key: value.to(dtype) for key, value in vit(seed=1, rel_pos_bias=rel_pos_bias).state_dict().items()
    }
    model, expected = (
        Parts(backbone=vit(seed, img_size=96, rel_pos_bias=rel_pos_bias, window_size=4)) for seed in (2, 3)
    )
    expected.backbone.load_state_dict(weights)
    table = load(weights, model)
    assert same(model.backbone, expected.backbone.state_dict())
    tables = [key for key in weights if key.endswith('table')]
    assert row(table, 'resampled') == (
        1 + len(tables),
        ', '.join(f'backbone.{key}' for key in weights if key in tables or key == 'pos_embed'),
    )
    assert row(table, 'loaded')[0] == len(weights) - 1 - len(tables)


def test_norms_saved_without_their_counter(load):
    source, model = resnet(18, seed=1), Parts(backbone=resnet(18, seed=2))
    weights = {
        key: value for key, value in source.state_dict().items() if not key.endswith('num_batches_tracked')
    }
    assert row(load(weights, model), 'not in the checkpoint') == (0, '')
    assert all(torch.equal(model.backbone.state_dict()[key], value) for key, value in weights.items())


def test_classifier_of_torchvision(load, resnet50):
    model = Parts(backbone=ResNet(50))
    assert row(load(resnet50, model), 'left over') == (2, 'fc.weight, fc.bias')
    weights = {key: value for key, value in resnet50.items() if not key.startswith('fc.')}
    assert same(model.backbone, weights)


def test_one_checkpoint_fills_the_stages_of_a_c4_detector(load, resnet50):
    def build():
        torch.manual_seed(0)
        shared_head = randomised(ResLayerExtraNorm(50), seed=3)
        return Parts(backbone=ResNet(50, **STAGES_123), roi_head=Parts(shared_head=shared_head))

    model, untouched = build(), build()
    table = load(resnet50, model, **C4)
    names = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
    assert row(table, 'new') == (5, ', '.join(f'roi_head.shared_head.norm.{name}' for name in names))
    assert row(table, 'left over') == (2, 'fc.weight, fc.bias')
    assert same(model.roi_head.shared_head.norm, untouched.roi_head.shared_head.norm.state_dict())
    layer4 = model.roi_head.shared_head.layer4.state_dict(prefix='layer4.')
    filled = {**model.backbone.state_dict(), **layer4}
    assert filled.keys() == {key for key in resnet50 if not key.startswith('fc.')}
    assert all(torch.equal(value, resnet50[key]) for key, value in filled.items())

    for kwargs, words in (
        (dict(), '10 left over of a deeper or other encoder (layer4.0.conv1.weight, '),
        (dict(parts=C4['parts']), '4 not in the checkpoint (roi_head.shared_head.norm.weight, '),
        (dict(parts=('roi_head.shared_head',), fresh_params=('norm.',)), '(layer1.0.conv1.weight, '),
    ):
        with pytest.raises(CheckpointError) as error:
            load(resnet50, build(), **kwargs)
        assert words in str(error.value)


def test_mask_rcnn_with_c4(load, root, resnet50):
    pytest.importorskip('mmcv._ext')
    pytest.importorskip('mmdet')
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    cfg = Config.fromfile(root / 'configs' / 'mmdet' / 'mask-rcnn_a2mim-r50-c4_2x_coco.py')
    model = MODELS.build(cfg.model)
    kwargs = dict(parts=cfg.pretrained_parts, fresh_params=cfg.fresh_params)
    encoder = {f'backbone.{key}': value for key, value in resnet50.items() if not key.startswith('fc.')}
    table = load(dict(state_dict={**encoder, **OTHERS}), model, **kwargs)
    assert row(table, 'loaded')[0] == len(encoder)
    assert row(table, 'new')[1].startswith('roi_head.shared_head.norm.weight, ')
    assert torch.equal(model.backbone.layer3[5].conv3.weight, resnet50['layer3.5.conv3.weight'])
    assert torch.equal(model.roi_head.shared_head.layer4[2].conv3.weight, resnet50['layer4.2.conv3.weight'])
    del encoder['backbone.layer4.2.conv3.weight']
    with pytest.raises(
        CheckpointError, match=r' 1 not in the .* \(roi_head\.shared_head\.layer4\.2\.conv3\.weight\)\n'
    ):
        load(dict(state_dict=encoder), model, **kwargs)


DEEPER = 'left over of a deeper or other encoder'
MISSING = 'not in the checkpoint'
SHAPE = 'of another shape'
TABLES = [f'layers.{index}.attn.relative_position_bias_table' for index in range(3)]


def checkpoint_of(**changes):
    """The checkpoint of a vit."""
    return pretrained(vit(**changes))


@pytest.mark.parametrize(
    ('content', 'changes', 'title', 'count', 'first'),
    [
        (lambda: checkpoint_of(arch=dict(num_layers=4)), {}, DEEPER, 13, 'layers.3.ln1.weight'),
        (lambda: checkpoint_of(arch=dict(num_layers=2)), {}, MISSING, 13, 'backbone.layers.2.ln1.weight'),
        (lambda: checkpoint_of(arch=dict(embed_dims=48)), {}, SHAPE, 39, 'backbone.cls_token'),
        (lambda: checkpoint_of(arch=dict(embed_dims=12)), {}, SHAPE, 39, 'backbone.cls_token'),
        (lambda: checkpoint_of(arch=dict(embed_dims=48)), dict(img_size=96), SHAPE, 39, 'backbone.cls_token'),
        (lambda: checkpoint_of(arch=dict(num_heads=4)), {}, SHAPE, 3, f'backbone.{TABLES[0]}'),
        (lambda: checkpoint_of(patch_size=8), {}, SHAPE, 1, 'backbone.patch_embed.projection.weight'),
        (lambda: checkpoint_of(), dict(rel_pos_bias=None), DEEPER, 3, ', '.join(TABLES)),
        (
            lambda: checkpoint_of(rel_pos_bias=None),
            {},
            MISSING,
            3,
            f'backbone.{TABLES[0]}, backbone.{TABLES[1]}',
        ),
        (lambda: checkpoint_of(rel_pos_bias='shared'), {}, MISSING, 3, f'backbone.{TABLES[0]}'),
        (lambda: checkpoint_of(), dict(rel_pos_bias='shared'), DEEPER, 3, TABLES[0]),
        (
            lambda: checkpoint_of(rel_pos_bias='shared'),
            dict(rel_pos_bias=None),
            DEEPER,
            1,
            'relative_position_bias_table',
        ),
        (lambda: checkpoint_of(), dict(abs_pos_embed=False), DEEPER, 1, 'pos_embed'),
        (
            lambda: without(vit().state_dict(), 'layers.1.attn.qkv.bias'),
            {},
            MISSING,
            1,
            'backbone.layers.1.attn.qkv.bias',
        ),
        (lambda: dict(state_dict=OTHERS), {}, MISSING, 45, 'backbone.cls_token, backbone.pos_embed'),
        (lambda: {'mask_token.token': torch.zeros(24)}, {}, MISSING, 45, 'backbone.cls_token'),
        (
            lambda: checkpoint_of(),
            dict(out_type='avg_featmap'),
            MISSING,
            2,
            'backbone.ln2.weight, backbone.ln2.bias',
        ),
    ],
    ids=[
        'deeper',
        'shallower',
        'wider',
        'narrower',
        'wider and smaller',
        'more heads',
        'smaller patches',
        'left over tables',
        'no tables',
        'one table for all',
        'a table for each',
        'left over shared table',
        'left over position embedding',
        'one missing',
        'decoder only',
        'mask token only',
        'no norm behind the pooling',
    ],
)
def test_vit_of_another_kind_is_refused_by_name(load, content, changes, title, count, first):
    with pytest.raises(CheckpointError, match=r'x\.pth does not fill this Parts: ') as error:
        load(content(), Parts(backbone=vit(**changes)))
    found, names = problem(str(error.value), title)
    assert found == count and names.startswith(first)


@pytest.mark.parametrize(
    ('source', 'target', 'words'),
    [
        (101, 50, f'{DEEPER} (layer3.6.conv1.weight, '),
        (50, 101, f'{MISSING} (backbone.layer3.6.conv1.weight, '),
        (34, 18, f'{DEEPER} (layer1.2.conv1.weight, '),
        (50, 18, f'{SHAPE} (backbone.layer1.0.conv1.weight, '),
    ],
)
def test_resnet_of_another_depth_is_refused_by_name(load, source, target, words):
    with pytest.raises(CheckpointError) as error:
        load(pretrained(resnet(source)), Parts(backbone=resnet(target)))
    assert words in str(error.value)


def test_running_statistics_count_as_parameters(load):
    weights = without(resnet(18).state_dict(), 'bn1.running_var')
    with pytest.raises(CheckpointError, match=r' 1 not in the checkpoint \(backbone\.bn1\.running_var\)\n'):
        load(weights, Parts(backbone=resnet(18)))


def test_refusal_shows_the_table_with_the_first_names(load):
    with pytest.raises(CheckpointError) as error:
        load(pretrained(vit(arch=dict(num_layers=2))), Parts(backbone=vit()))
    message = str(error.value)
    assert row(message, 'loaded')[0] == 32
    count, names = row(message, 'not in the checkpoint')
    assert count == 13 and names.count('backbone.layers.2.') == 5 and names.endswith(', and 8 more')
    assert row(message, 'left over')[0] == 3


def test_new_parameters_are_listed_or_refused(load):
    pooled = dict(out_type='avg_featmap')
    source, model = vit(seed=1), Parts(backbone=vit(seed=2, **pooled))
    table = load(pretrained(source), model, fresh_params=('ln2.',))
    assert row(table, 'new') == (2, 'backbone.ln2.weight, backbone.ln2.bias')
    assert row(table, 'loaded')[0] == len(source.state_dict())
    assert torch.equal(model.backbone.ln2.weight, vit(seed=2, **pooled).ln2.weight)
    assert torch.equal(model.backbone.layers[2].ln2.weight, source.layers[2].ln2.weight)

    whole = vit(**pooled).state_dict()
    for weights, fresh, words in (
        (whole, ('ln2.',), ' 2 listed in fresh_params, but in the checkpoint (ln2.weight, ln2.bias)\n'),
        (
            without(whole, 'ln2.bias'),
            ('ln2.',),
            ' 1 listed in fresh_params, but in the checkpoint (ln2.weight)',
        ),
        (whole, ('ln3.',), ' 1 listed in fresh_params, but not in the model (ln3.)\n'),
        (vit().state_dict(), ('ln2.', 'norm.'), ' 1 listed in fresh_params, but not in the model (norm.)\n'),
        (vit().state_dict(), ('ln2.w',), ' 1 not in the checkpoint (backbone.ln2.bias)\n'),
    ):
        with pytest.raises(CheckpointError) as error:
            load(weights, Parts(backbone=vit(**pooled)), fresh_params=fresh)
        assert words in str(error.value)


def test_parts_that_do_not_exist(load):
    for part in ('backbnoe', 'roi_head.shared_head'):
        with pytest.raises(ValueError) as error:
            load(pretrained(vit()), Parts(backbone=vit(), neck=nn.Identity()), parts=('backbone', part))
        assert f'pretrained_parts: this Parts has no {part!r}; it has backbone, neck' in str(error.value)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (dict(state_dict={}), 'holds no weights'),
        (dict(state_dict=3), 'int'),
        (dict(state_dict=torch.zeros(1)), 'Tensor'),
        (dict(model=dict(weight=torch.zeros(1)), epoch=3), 'its keys are model, epoch'),
        ({}, 'holds no weights'),
    ],
    ids=['empty', 'number', 'tensor', 'other key', 'nothing'],
)
def test_no_weights(tmp_path, content, words):
    path = tmp_path / 'x.pth'
    torch.save(content, path)
    with pytest.raises(CheckpointError) as error:
        read_pretrained(path)
    assert str(path) in str(error.value) and words in str(error.value)


@pytest.mark.parametrize(
    ('kwargs', 'words'),
    [
        (dict(parts=()), 'pretrained_parts is empty'),
        (
            dict(parts='backbone'),
            "pretrained_parts must be a tuple of names, such as ('backbone',), got 'backbone'",
        ),
        (
            dict(parts=('backbone', 'neck')),
            '1 of pretrained_parts without any tensor from the checkpoint (neck)',
        ),
        (dict(parts=None), 'pretrained_parts must be a tuple of names'),
        (dict(fresh_params='ln2.'), "fresh_params must be a tuple of names, such as ('ln2.',), got 'ln2.'"),
        (dict(fresh_params=('',)), 'fresh_params must be a tuple of names'),
    ],
)
def test_settings_that_would_load_nothing(load, kwargs, words):
    with pytest.raises(ValueError) as error:
        load(checkpoint_of(), Parts(backbone=vit(), neck=nn.Identity()), **kwargs)
    assert words in str(error.value)


def test_everything_new_is_no_start_from_a_checkpoint(load):
    with pytest.raises(CheckpointError, match=r'without any tensor from the checkpoint \(backbone\)'):
        load(dict(state_dict=OTHERS), Parts(backbone=nn.Linear(2, 2)), fresh_params=('weight', 'bias'))


@pytest.mark.parametrize('kind', [A2MIMViT, VisionTransformer])
def test_grid_that_cannot_be_told_names_the_checkpoint(load, kind):
    arch = dict(arch=VIT['arch'], patch_size=16)
    with pytest.raises(CheckpointError, match=r'x\.pth does not fit this'):
        load(pretrained(kind(img_size=(64, 96), **arch)), Parts(backbone=kind(img_size=128, **arch)))


def test_norm_of_mean_pooling_is_left_over(load):
    """From a fine-tuned classifier to a detector; norms inside the layers would be refused."""
    model = Parts(backbone=vit())
    count, names = row(load(pretrained(vit(out_type='avg_featmap')), model), 'left over')
    assert count == 2 + len(OTHERS) and names.startswith('ln2.weight, ln2.bias, ')
    with pytest.raises(CheckpointError) as error:
        load(pretrained(vit(layer_scale_init_value=0.1)), Parts(backbone=vit()))
    assert problem(str(error.value), DEEPER)[1].startswith('layers.0.attn.gamma1.weight')


# What weights do not show


IMAGES = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
SMALL = dict(type='a2mim_mm.A2MIMViT', arch='deit-small')


@pytest.mark.parametrize(
    ('theirs', 'ours', 'words'),
    [
        (SMALL, dict(SMALL, arch='mocov3-small'), 'num_heads is 6 there and 12 here'),
        (
            dict(type='ResNet', depth=50, style='caffe'),
            dict(type='ResNet', depth=50),
            "style is 'caffe' there and 'pytorch' here",
        ),
        (
            dict(type='SwinTransformer', arch='tiny'),
            dict(
                type='SwinTransformer', arch=dict(embed_dims=96, depths=[2, 2, 6, 2], num_heads=[2, 4, 8, 16])
            ),
            r'num_heads is \[3, 6, 12, 24\] there and \[2, 4, 8, 16\] here',
        ),
        (SMALL, dict(SMALL, img_size=96), None),
        (dict(type='ResNet', depth=50), dict(type='mmdet.ResNet', depth=50, style='pytorch'), None),
        ({}, SMALL, None),
        (SMALL, None, None),
    ],
)
def test_configs_are_compared_where_weights_do_not_tell(theirs, ours, words):
    if isinstance(ours, dict) and ours.get('arch') == 'mocov3-small':
        arch = dict(embed_dims=384, num_layers=12, num_heads=12, feedforward_channels=1536)
        ours = dict(ours, arch=arch)
    saved, cfg = dict(model=dict(backbone=theirs)), Config(dict(model=dict(backbone=ours)))
    if words is None:
        check_same_network(saved, cfg, 'x.pth')
    else:
        with pytest.raises(CheckpointError, match=f'x.pth belongs to another network.*{words}'):
            check_same_network(saved, cfg, 'x.pth')


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(mean=[127.5, 127.5, 127.5]), ['mean=[127.5, 127.5, 127.5]']),
        (dict(std=[1.0, 1.0, 1.0], to_rgb=False), ['std=[1.0, 1.0, 1.0]', 'RGB=False']),
        (dict(mean=[123.7, 116.3, 103.5]), []),
    ],
)
def test_other_images_are_said(changes, words):
    saved = dict(data_preprocessor={**IMAGES, **changes})
    cfg = Config(dict(model=dict(data_preprocessor={**IMAGES, 'bgr_to_rgb': IMAGES['to_rgb']})))
    notes = differing_images(saved, cfg, 'x.pth')
    assert len(notes) == len(words) and all(any(word in note for note in notes) for word in words)
