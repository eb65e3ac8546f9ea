"""Swin by the names of mmpretrain, microsoft and timm, against the networks of mmpretrain and timm."""

import re

import pytest
import timm
import torch

from a2mim_mm.checkpoints.load import build_network as build_backbone
from a2mim_mm.convert import ConversionError
from a2mim_mm.convert.formats import convnext, openmmlab, simmim, timm_beit, timm_vit
from a2mim_mm.convert.formats import timm as timm_format
from a2mim_mm.convert.formats import torchvision as torchvision_format
from a2mim_mm.convert.naming import Hints

WINDOW, SIZE = 3, 96  # the last stage is one window
ARCH = dict(embed_dims=8, depths=[2, 2, 3, 2], num_heads=[1, 2, 2, 4])
NAMINGS = {'mmpretrain': openmmlab.SWIN, 'timm': timm_format.SWIN, 'microsoft': simmim.SWIN}
HINTS = Hints(img_size=(SIZE, SIZE))
INDEX, MASK = 'relative_position_index', 'attn_mask'


def randomise(network):
    """All parameters at random: what starts as ones or zeros would hide an error."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3, generator=generator)
    network.eval()
    return network


def timm_network(**kwargs):
    return randomise(
        timm.models.SwinTransformer(
            **dict(
                num_classes=0,
                img_size=SIZE,
                window_size=WINDOW,
                embed_dim=ARCH['embed_dims'],
                depths=ARCH['depths'],
                num_heads=ARCH['num_heads'],
            )
            | kwargs
        )
    )


def mm_network(**kwargs):
    cfg = dict(type='mmpretrain.SwinTransformer', arch=ARCH, img_size=SIZE, window_size=WINDOW)
    return randomise(build_backbone(cfg | kwargs))


def in_microsofts_names(network):
    """Of a timm network, with the buffers that microsoft's class saves."""
    buffers = {n: b for n, b in network.named_buffers() if n.endswith((INDEX, MASK))}
    return {
        re.sub(
            r'layers\.(\d)\.downsample', lambda match: f'layers.{int(match[1]) - 1}.downsample', name
        ): tensor
        for name, tensor in (network.state_dict() | buffers).items()
    }


def images(size=SIZE, channels=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, size, size, dtype=torch.float64, generator=generator)


def relative(first, second):
    assert first.shape == second.shape
    return ((first - second).abs().max() / first.abs().max()).item()


def same(first, second):
    return first.keys() == second.keys() and all(
        tensor.dtype == second[name].dtype and torch.equal(tensor, second[name])
        for name, tensor in first.items()
    )


def weights_of(source):
    network = timm_network()
    if source == 'microsoft':
        return in_microsofts_names(network)
    if source == 'mmpretrain':
        return dict(timm_format.SWIN.read(network.state_dict(), HINTS).weights)
    return network.state_dict()


def first_blocks(weights):
    """Names without those of later blocks and of one more stage, which only repeat them."""
    return [name for name in weights if not re.search(r'blocks\.[12]\.|(layers|stages)\.2\.blocks', name)]


def test_microsofts_buffers_are_in_the_weights_of_these_tests():
    names = list(in_microsofts_names(timm_network()))
    assert sum(name.endswith(INDEX) for name in names) == 9
    assert sum(name.endswith(MASK) for name in names) == 3  # not in the last stage, which is one window


@pytest.mark.parametrize('size', [SIZE, 2 * SIZE])
@torch.no_grad()
def test_timm_and_microsoft_become_mmpretrains_network(size):
    network = timm_network(img_size=size)
    sources = ((timm_format.SWIN, network.state_dict()), (simmim.SWIN, in_microsofts_names(network)))
    theirs = [(naming, {name: t.clone() for name, t in weights.items()}) for naming, weights in sources]
    expected = network.double()(images(size))
    for naming, weights in theirs:
        encoder = naming.read(weights, Hints(img_size=(size, size)))
        out = encoder.build(torch.float64)(images(size))[-1]
        assert relative(expected, out.mean((-2, -1))) < 1e-9
        if naming.express:
            assert same(naming.write(encoder)[0], weights)


@pytest.mark.parametrize('target', NAMINGS)
@torch.no_grad()
def test_peers_agree(target):
    network = timm_network(in_chans=2)
    encoder = timm_format.SWIN.read(network.state_dict(), HINTS)
    theirs = in_microsofts_names(network)
    written = theirs if target == 'microsoft' else NAMINGS[target].write(encoder)[0]
    peer = NAMINGS[target].peer(encoder.cfg, written).double()
    assert relative(network.double()(images(channels=2)), peer.features(images(channels=2))) < 1e-9


@torch.no_grad()
def test_mmpretrains_weights_come_back_and_compute_the_same_elsewhere():
    network = mm_network()
    weights = network.state_dict()
    encoder = openmmlab.SWIN.read(weights, HINTS)
    assert same(encoder.weights, weights) and same(openmmlab.SWIN.write(encoder)[0], weights)
    assert not encoder.folded
    for naming in (timm_format.SWIN,):
        written, dropped = naming.write(encoder)
        assert all(name.endswith(INDEX) for name in dropped)
        peer = naming.peer(encoder.cfg, written).double()
        expected = encoder.build(torch.float64)(images())[-1].mean((-2, -1))
        assert relative(expected, peer.features(images())) < 1e-9
        assert same(naming.read(written, HINTS).weights, weights)


@torch.no_grad()
def test_norms_of_a_dense_backbone_stay_in_mmpretrain_and_are_listed_elsewhere():
    weights = mm_network(out_indices=(0, 1, 2, 3)).state_dict()
    encoder = openmmlab.SWIN.read(weights, HINTS)
    assert same(encoder.weights, weights)
    early = {f'norm{i}.{part}' for i in (0, 1, 2) for part in ('weight', 'bias')}
    for naming in (timm_format.SWIN,):
        written, dropped = naming.write(encoder)
        assert {name for name in dropped if not name.endswith(INDEX)} == early
        peer = naming.peer(encoder.cfg, written).double()
        expected = encoder.build(torch.float64)(images())[-1].mean((-2, -1))
        assert relative(expected, peer.features(images())) < 1e-9


@torch.no_grad()
def test_without_a_last_norm_it_is_mmpretrains_alone():
    network = mm_network(norm_cfg=None)
    encoder = openmmlab.SWIN.read(network.state_dict(), HINTS)
    peer = openmmlab.SWIN.peer(encoder.cfg, encoder.weights).double()
    assert relative(network.double()(images())[-1], peer.features(images())) < 1e-9
    with pytest.raises(ConversionError, match='norm3'):
        timm_format.SWIN.write(encoder)


def test_what_is_computed_is_listed_and_regenerated():
    weights = in_microsofts_names(timm_network())
    encoder = simmim.SWIN.read(weights, HINTS)
    assert set(encoder.folded) == {name for name in weights if name.endswith((INDEX, MASK))}
    network = mm_network()
    indices = {name: buffer for name, buffer in network.state_dict().items() if name.endswith(INDEX)}
    assert indices and same({name: encoder.weights[name] for name in indices}, indices)
    bare = {name: tensor for name, tensor in weights.items() if not name.endswith((INDEX, MASK))}
    assert same(simmim.SWIN.read(bare, HINTS).weights, encoder.weights)


@pytest.mark.parametrize('source', ['mmpretrain', 'microsoft'])
def test_another_order_of_positions_is_refused(source):
    weights = weights_of(source)
    name = next(name for name in weights if name.endswith(INDEX) and '.1.blocks.1.' in name)
    for wrong in (weights[name].T, weights[name].flip(1), weights[name][1:], weights[name] + 1):
        with pytest.raises(ConversionError, match=INDEX):
            NAMINGS[source].read(weights | {name: wrong}, HINTS)


def test_a_mask_of_another_image_size_is_refused():
    weights = in_microsofts_names(timm_network())
    with pytest.raises(ConversionError, match=MASK):
        simmim.SWIN.read(weights, Hints(img_size=(2 * SIZE, 2 * SIZE)))
    with pytest.raises(ConversionError, match=MASK):
        simmim.SWIN.read(weights | {f'layers.1.blocks.1.{MASK}': torch.zeros(16, 9, 9)}, HINTS)


def test_masks_of_mmcls_0_are_computed_too():
    weights = mm_network().state_dict()
    masks = {n: b for n, b in timm_network().named_buffers() if n.endswith(MASK)}
    masks = {name.replace('layers', 'stages').replace(MASK, f'attn.{MASK}'): b for name, b in masks.items()}
    encoder = openmmlab.SWIN.read(weights | masks, HINTS)
    assert same(encoder.weights, weights) and set(encoder.folded) == set(masks)
    openmmlab.SWIN.peer(encoder.cfg, weights | masks)


@pytest.mark.parametrize('window, size', [(6, 192), (7, 224), (12, 384)])
def test_the_image_size_is_that_of_released_weights(window, size):
    depths = [1, 1, 1, 1]
    weights = timm_network(img_size=size, window_size=window, depths=depths).state_dict()
    cfg = timm_format.SWIN.read(weights, Hints()).cfg
    assert (cfg['img_size'], cfg['window_size'], cfg['arch']) == (size, window, ARCH | dict(depths=depths))


def test_masks_tell_the_image_size():
    weights = in_microsofts_names(timm_network(img_size=2 * SIZE))
    assert simmim.SWIN.read(weights, Hints()).cfg['img_size'] == 2 * SIZE


@pytest.mark.parametrize('sides', [(SIZE + 32, SIZE + 32), (SIZE, 2 * SIZE)])
def test_image_sizes_where_libraries_differ_stay_in_mmpretrain(sides):
    encoder = openmmlab.SWIN.read(mm_network(img_size=sides).state_dict(), Hints(img_size=sides))
    with pytest.raises(ConversionError, match='multiple of 96'):
        timm_format.SWIN.write(encoder)


def test_every_single_name_that_is_missing_or_misshapen_is_refused():
    """Misshapen in one of three ways each, in turn. All namings share these checks."""
    weights = {name: t for name, t in weights_of('microsoft').items() if not name.endswith((INDEX, MASK))}
    for number, name in enumerate(first_blocks(weights)):
        with pytest.raises(ConversionError):
            NAMINGS['microsoft'].read({n: t for n, t in weights.items() if n != name}, HINTS)
        tensor = weights[name]
        wrong = (tensor[..., None], tensor.repeat_interleave(2, dim=-1), tensor[1:])[number % 3]
        with pytest.raises(ConversionError):
            NAMINGS['microsoft'].read(weights | {name: wrong}, HINTS)


@pytest.mark.parametrize(
    'source, name, pivot',
    [
        ('mmpretrain', 'stages.2.blocks.1.ffn.layers.1.bias', 'stages.2.blocks.1.ffn.layers.1.bias'),
        ('timm', 'layers.2.blocks.1.mlp.fc2.bias', 'stages.2.blocks.1.ffn.layers.1.bias'),
        ('microsoft', 'layers.2.blocks.2.norm1.weight', 'stages.2.blocks.2.norm1.weight'),
        ('timm', 'layers.3.downsample.norm.weight', 'stages.2.downsample.norm.weight'),
        ('microsoft', 'layers.2.downsample.reduction.weight', 'stages.2.downsample.reduction.weight'),
        ('timm', 'norm.weight', 'norm3.weight'),
    ],
)
def test_the_error_names_what_is_missing_or_misshapen(source, name, pivot):
    weights = weights_of(source)
    with pytest.raises(ConversionError, match=f'missing: {re.escape(pivot)}$'):
        NAMINGS[source].read({n: t for n, t in weights.items() if n != name}, HINTS)
    with pytest.raises(ConversionError, match=f'of another shape: {re.escape(pivot)}$'):
        NAMINGS[source].read(weights | {name: weights[name][1:]}, HINTS)


@pytest.mark.parametrize(
    'source, extra',
    [
        ('mmpretrain', 'stages.0.blocks.0.attn.weight'),
        ('mmpretrain', 'stages.3.downsample.reduction.weight'),
        ('mmpretrain', f'stages.7.blocks.0.attn.w_msa.{INDEX}'),
        ('timm', 'layers.4.downsample.reduction.weight'),
        ('timm', 'head.fc.weight'),
        ('microsoft', f'layers.0.blocks.0.{MASK}'),
        ('microsoft', 'absolute_pos_embed'),
        ('microsoft', 'layers.0.blocks.0.attn.logit_scale'),
    ],
)
def test_an_extra_name_is_refused(source, extra):
    with pytest.raises(ConversionError) as error:
        NAMINGS[source].read(weights_of(source) | {extra: torch.ones(8, 8)}, HINTS)
    hint = {'absolute_pos_embed': 'absolute position', 'logit_scale': 'Swin V2', MASK: f'0.attn.{MASK}'}
    part = extra.rpartition('.')[2]
    assert hint.get(part, extra) in str(error.value)


def test_windows_of_different_sizes_are_refused():
    weights = timm_network(window_size=(3, 3, 2, 3)).state_dict()
    with pytest.raises(ConversionError, match='windows of different sizes'):
        timm_format.SWIN.read(weights, HINTS)


def test_each_naming_claims_its_own_weights_alone():
    others = (
        torchvision_format.RESNET,
        timm_vit.VIT,
        timm_beit.BEIT,
        openmmlab.VIT,
        openmmlab.CONVNEXT,
        timm_format.CONVNEXT,
        convnext.CONVNEXT,
    )
    for source in NAMINGS:
        names = list(weights_of(source))
        assert [known for known, naming in NAMINGS.items() if naming.claims(names)] == [source]
        assert not any(naming.claims(names) for naming in others)
    for model in ('resnet18', 'vit_tiny_patch16_224', 'convnext_atto'):
        with torch.device('meta'):
            names = list(timm.create_model(model, num_classes=0).state_dict())
        assert not any(naming.claims(names) for naming in NAMINGS.values())
