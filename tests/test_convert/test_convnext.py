"""ConvNeXt by the names of mmpretrain, timm and facebookresearch, against networks of mmpretrain and timm."""

import re

import pytest
import timm
import torch

from a2mim_mm.checkpoints.load import build_network as build_backbone
from a2mim_mm.convert import ConversionError
from a2mim_mm.convert.formats import convnext, openmmlab, timm_vit
from a2mim_mm.convert.formats import timm as timm_format
from a2mim_mm.convert.formats import torchvision as torchvision_format
from a2mim_mm.convert.naming import Hints

DEPTHS, DIMS = (1, 2, 3, 1), (8, 12, 16, 20)
KINDS = {
    'V1': dict(),
    'V1 of 1x1 convolutions': dict(conv_mlp=True),
    'V1 without LayerScale': dict(ls_init_value=None),
    'V2': dict(use_grn=True, ls_init_value=None),
    'V2 with LayerScale': dict(use_grn=True),
    'grey images': dict(in_chans=1),
}
NAMINGS = {'mmpretrain': openmmlab.CONVNEXT, 'timm': timm_format.CONVNEXT, 'facebook': convnext.CONVNEXT}
TO_FACEBOOK = [
    (r'stem\.', 'downsample_layers.0.'),
    (r'stages\.(\d)\.downsample\.', r'downsample_layers.\1.'),
    (r'stages\.(\d)\.blocks\.', r'stages.\1.'),
    (r'conv_dw', 'dwconv'),
    (r'mlp\.fc(\d)', r'pwconv\1'),
    (r'mlp\.grn\.weight', 'grn.gamma'),
    (r'mlp\.grn\.bias', 'grn.beta'),
    (r'head\.norm', 'norm'),
]


def randomise(network, seed=0):
    """All parameters at random: what starts as ones, zeros or 1e-6 would hide an error."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3, generator=generator)
    network.eval()
    return network


def timm_network(**kwargs):
    return randomise(timm.models.ConvNeXt(num_classes=0, depths=DEPTHS, dims=DIMS, **kwargs))


def in_facebooks_names(weights):
    renamed = {}
    for name, tensor in weights.items():
        for pattern, replacement in TO_FACEBOOK:
            name = re.sub(pattern, replacement, name)
        if '.pwconv' in name and tensor.ndim == 4:
            tensor = tensor[:, :, 0, 0]
        renamed[name] = tensor[None, None, None] if '.grn.' in name else tensor
    return renamed


def images(channels=3):
    return torch.randn(2, channels, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def relative(first, second):
    assert first.shape == second.shape
    return ((first - second).abs().max() / first.abs().max()).item()


def same(first, second):
    return first.keys() == second.keys() and all(
        tensor.dtype == second[name].dtype and torch.equal(tensor, second[name])
        for name, tensor in first.items()
    )


def weights_of(source):
    """A small V1 by the names of one library."""
    weights = timm_network().state_dict()
    if source == 'facebook':
        return in_facebooks_names(weights)
    if source == 'mmpretrain':
        return dict(timm_format.CONVNEXT.read(weights, Hints()).weights)
    return weights


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_timm_and_facebook_become_mmpretrains_network(kind):
    network = timm_network(**KINDS[kind])
    channels = KINDS[kind].get('in_chans', 3)
    expected = network.double()(images(channels))
    weights = network.float().state_dict()
    for naming, theirs in ((timm_format.CONVNEXT, weights), (convnext.CONVNEXT, in_facebooks_names(weights))):
        encoder = naming.read(theirs, Hints())
        assert relative(expected, encoder.build(torch.float64)(images(channels))[-1]) < 1e-9
        if naming.express:
            written, dropped = naming.write(encoder)
            assert same(written, theirs) and not dropped


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('target', NAMINGS)
@torch.no_grad()
def test_peers_agree(kind, target):
    network = timm_network(**KINDS[kind])
    channels = KINDS[kind].get('in_chans', 3)
    encoder = timm_format.CONVNEXT.read(network.state_dict(), Hints())
    theirs = in_facebooks_names(network.state_dict())
    written = theirs if target == 'facebook' else NAMINGS[target].write(encoder)[0]
    peer = NAMINGS[target].peer(encoder.cfg, written).double()
    assert relative(network.double()(images(channels)), peer.features(images(channels))) < 1e-9


@pytest.mark.parametrize('linear', [True, False])
@torch.no_grad()
def test_mmpretrains_weights_come_back_and_compute_the_same_in_timm(linear):
    arch = dict(depths=list(DEPTHS), channels=list(DIMS))
    network = randomise(
        build_backbone(dict(type='mmpretrain.ConvNeXt', arch=arch, linear_pw_conv=linear, out_indices=[3]))
    )
    encoder = openmmlab.CONVNEXT.read(network.state_dict(), Hints())
    assert same(openmmlab.CONVNEXT.write(encoder)[0], network.state_dict())
    peer = timm_format.CONVNEXT.peer(encoder.cfg, timm_format.CONVNEXT.write(encoder)[0]).double()
    assert relative(network.double()(images())[-1], peer.features(images())) < 1e-9


@torch.no_grad()
def test_norms_of_a_dense_backbone_stay_in_mmpretrain_and_are_listed_elsewhere():
    arch = dict(depths=list(DEPTHS), channels=list(DIMS))
    network = randomise(build_backbone(dict(type='mmpretrain.ConvNeXt', arch=arch, out_indices=[0, 1, 2, 3])))
    weights = network.state_dict()
    encoder = openmmlab.CONVNEXT.read(weights, Hints())
    assert same(encoder.weights, weights)
    early = {f'norm{i}.{part}' for i in (0, 1, 2) for part in ('weight', 'bias')}
    written, dropped = timm_format.CONVNEXT.write(encoder)
    assert set(dropped) == early
    peer = timm_format.CONVNEXT.peer(encoder.cfg, written).double()
    assert relative(encoder.build(torch.float64)(images())[-1], peer.features(images())) < 1e-9
    with pytest.raises(ConversionError, match='norm3'):
        openmmlab.CONVNEXT.read({n: t for n, t in weights.items() if not n.startswith('norm3')}, Hints())


@torch.no_grad()
def test_without_a_last_norm_the_last_map_is_compared():
    network = timm_network()
    weights = {name: t for name, t in network.state_dict().items() if not name.startswith('head.norm')}
    expected = network.double().forward_features(images())
    theirs = in_facebooks_names({name: tensor.float() for name, tensor in weights.items()})
    encoder = convnext.CONVNEXT.read(theirs, Hints())
    encoder.build()
    for naming, own in ((convnext.CONVNEXT, theirs), (openmmlab.CONVNEXT, encoder.weights)):
        peer = naming.peer(encoder.cfg, own).double()
        assert relative(expected, peer.features(images())) < 1e-9
    with pytest.raises(ConversionError, match='norm'):
        timm_format.CONVNEXT.write(encoder)
    with pytest.raises(ConversionError, match='norm'):
        timm_format.CONVNEXT.read({name: tensor.float() for name, tensor in weights.items()}, Hints())


def test_every_single_name_that_is_missing_or_misshapen_is_refused():
    """Misshapen in one of three ways each, in turn. All namings share these checks."""
    weights = weights_of('facebook')
    for number, name in enumerate(weights):
        with pytest.raises(ConversionError):
            NAMINGS['facebook'].read({n: t for n, t in weights.items() if n != name}, Hints())
        tensor = weights[name]
        wrong = (tensor[..., None], tensor.repeat_interleave(2, dim=-1), tensor[1:])[number % 3]
        with pytest.raises(ConversionError):
            NAMINGS['facebook'].read(weights | {name: wrong}, Hints())


@pytest.mark.parametrize(
    'source, name, pivot',
    [
        ('mmpretrain', 'stages.2.1.pointwise_conv2.bias', 'stages.2.1.pointwise_conv2.bias'),
        ('timm', 'stages.2.blocks.1.mlp.fc2.bias', 'stages.2.1.pointwise_conv2.bias'),
        ('facebook', 'stages.2.1.pwconv2.bias', 'stages.2.1.pointwise_conv2.bias'),
        ('timm', 'stages.2.blocks.2.conv_dw.weight', 'stages.2.2.depthwise_conv.weight'),
        ('timm', 'stages.0.blocks.0.gamma', 'stages.0.0.gamma'),
        ('timm', 'stem.0.weight', 'downsample_layers.0.0.weight'),
        ('timm', 'head.norm.weight', 'norm3.weight'),
    ],
)
def test_the_error_names_what_is_missing_or_misshapen(source, name, pivot):
    weights = weights_of(source)
    with pytest.raises(ConversionError, match=f'missing: {re.escape(pivot)}$'):
        NAMINGS[source].read({n: t for n, t in weights.items() if n != name}, Hints())
    if not name.endswith(('conv_dw.weight', 'stem.0.weight')):
        with pytest.raises(ConversionError, match=f'of another shape: {re.escape(pivot)}$'):
            NAMINGS[source].read(weights | {name: weights[name][1:]}, Hints())


@pytest.mark.parametrize(
    'source, extra',
    [
        ('mmpretrain', 'stages.0.0.attn.weight'),
        ('mmpretrain', 'stages.4.0.gamma'),
        ('timm', 'stages.0.blocks.0.shortcut.conv.weight'),
        ('timm', 'stages.0.downsample.0.weight'),
        ('timm', 'norm_pre.weight'),
        ('facebook', 'norm0.weight'),
        ('facebook', 'head.weight'),
    ],
)
def test_an_extra_name_is_refused_by_name(source, extra):
    with pytest.raises(ConversionError, match=re.escape(extra.partition('.')[0])):
        NAMINGS[source].read(weights_of(source) | {extra: torch.ones(8)}, Hints())


def test_each_naming_claims_its_own_weights_alone():
    for source in NAMINGS:
        names = list(weights_of(source))
        assert [known for known, naming in NAMINGS.items() if naming.claims(names)] == [source]
        assert not torchvision_format.RESNET.claims(names) and not timm_vit.VIT.claims(names)
    resnet = timm.create_model('resnet18', num_classes=0).state_dict()
    assert not any(naming.claims(resnet) for naming in NAMINGS.values())


def test_known_sizes_have_a_name():
    with torch.device('meta'):
        weights = timm.create_model('convnext_tiny', num_classes=0).state_dict()
    assert timm_format.CONVNEXT.read(weights, Hints()).cfg['arch'] == 'tiny'


@pytest.mark.parametrize('patch', [2, 8])
def test_a_stem_after_which_timm_strides_otherwise_is_refused(patch):
    arch = dict(depths=list(DEPTHS), channels=list(DIMS))
    cfg = dict(type='mmpretrain.ConvNeXt', arch=arch, stem_patch_size=patch, out_indices=[3])
    encoder = openmmlab.CONVNEXT.read(build_backbone(cfg).state_dict(), Hints())
    with pytest.raises(ConversionError, match=f'stem of {patch} pixels'):
        timm_format.CONVNEXT.write(encoder)
    with pytest.raises(ConversionError):
        timm_format.CONVNEXT.read(timm_network(patch_size=patch).state_dict(), Hints())
