"""ConvNeXt by the names of mmpretrain, timm and facebookresearch, against networks of mmpretrain and timm."""

import pytest
import timm
import torch
from helpers import peers

from a2mim_mm.convert import ConversionError
from a2mim_mm.convert.formats import convnext, openmmlab
from a2mim_mm.convert.formats import timm as timm_format
from a2mim_mm.convert.naming import Hints

KINDS = {
    'V1': dict(),
    'V1 of 1x1 convolutions': dict(conv_mlp=True),
    'V1 without LayerScale': dict(ls_init_value=None),
    'V2': dict(use_grn=True, ls_init_value=None),
    'V2 with LayerScale': dict(use_grn=True),
    'grey images': dict(in_chans=1),
}


def images(channels=3):
    return peers.images((64, 96), channels=channels)


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_timm_facebook_and_mmpretrain_compute_the_same(kind):
    network = peers.randomised(peers.timm_convnext(**KINDS[kind]))
    weights, picture = peers.weights_of(network), images(KINDS[kind].get('in_chans', 3))
    expected = network.double()(picture)
    for naming, theirs in (
        (convnext.CONVNEXT, peers.facebook_convnext(weights)),
        (timm_format.CONVNEXT, weights),
    ):
        encoder = naming.read(theirs, Hints())
        assert peers.difference(expected, encoder.build(torch.float64)(picture)[-1]) < 1e-9
        peer = naming.peer(encoder.cfg, theirs).double()
        assert peers.difference(expected, peer.features(picture)) < 1e-9
    written, dropped = timm_format.CONVNEXT.write(encoder)
    assert peers.same_weights(written, weights) and not dropped
    peer = openmmlab.CONVNEXT.peer(encoder.cfg, openmmlab.CONVNEXT.write(encoder)[0]).double()
    assert peers.difference(expected, peer.features(picture)) < 1e-9


@pytest.mark.parametrize(
    ('kind', 'early'),
    [({}, ()), (dict(linear_pw_conv=False), ()), (dict(out_indices=[0, 1, 2, 3]), (0, 1, 2))],
    ids=['linear', 'convolutions', 'norms for a dense decoder'],
)
@torch.no_grad()
def test_mmpretrains_weights_come_back_and_compute_the_same_in_timm(kind, early):
    network = peers.randomised(peers.mm_convnext(**kind))
    weights = peers.weights_of(network)
    encoder = openmmlab.CONVNEXT.read(weights, Hints())
    assert peers.same_weights(openmmlab.CONVNEXT.write(encoder)[0], weights)
    written, dropped = timm_format.CONVNEXT.write(encoder)
    assert dropped.keys() == {f'norm{i}.{part}' for i in early for part in ('weight', 'bias')}
    peer = timm_format.CONVNEXT.peer(encoder.cfg, written).double()
    assert peers.difference(network.double()(images())[-1], peer.features(images())) < 1e-9


@torch.no_grad()
def test_without_a_last_norm_the_last_map_is_compared():
    network = peers.randomised(peers.timm_convnext())
    weights = {n: t for n, t in peers.weights_of(network).items() if not n.startswith('head.norm')}
    expected = network.double().forward_features(images())
    theirs = peers.facebook_convnext(weights)
    encoder = convnext.CONVNEXT.read(theirs, Hints())
    encoder.build()
    for naming, own in ((convnext.CONVNEXT, theirs), (openmmlab.CONVNEXT, encoder.weights)):
        peer = naming.peer(encoder.cfg, own).double()
        assert peers.difference(expected, peer.features(images())) < 1e-9
    with pytest.raises(ConversionError, match='no last norm'):
        timm_format.CONVNEXT.write(encoder)
    with pytest.raises(ConversionError, match='no last norm'):
        timm_format.CONVNEXT.read(weights, Hints())


def test_known_sizes_have_a_name():
    with torch.device('meta'):
        weights = timm.create_model('convnext_tiny', num_classes=0).state_dict()
    assert timm_format.CONVNEXT.read(weights, Hints()).cfg['arch'] == 'tiny'


@pytest.mark.parametrize('patch', [2, 8])
def test_a_stem_after_which_timm_strides_otherwise_is_refused(patch):
    encoder = openmmlab.CONVNEXT.read(peers.mm_convnext(stem_patch_size=patch).state_dict(), Hints())
    with pytest.raises(ConversionError, match=f'stem of {patch} pixels'):
        timm_format.CONVNEXT.write(encoder)
    with pytest.raises(ConversionError):
        timm_format.CONVNEXT.read(peers.timm_convnext(patch_size=patch).state_dict(), Hints())
