"""Swin by the names of mmpretrain, microsoft and timm, against the networks of mmpretrain and timm."""

import pytest
import torch
from helpers import peers

from a2mim_mm.convert import ConversionError
from a2mim_mm.convert.formats import openmmlab, simmim
from a2mim_mm.convert.formats import timm as timm_format
from a2mim_mm.convert.naming import Hints

SIZE = peers.SWIN_SIZE
HINTS = Hints(img_size=(SIZE, SIZE))
INDEX, MASK = 'relative_position_index', 'attn_mask'


def timm_network(**changes):
    return peers.randomised(peers.timm_swin(**changes))


def mm_network(**changes):
    return peers.randomised(peers.mm_swin(**changes))


def endings(weights, *endings):
    return {name: tensor for name, tensor in weights.items() if name.endswith(endings)}


@pytest.mark.parametrize('changes', [{}, dict(img_size=2 * SIZE), dict(in_chans=2)])
@torch.no_grad()
def test_timm_microsoft_and_mmpretrain_compute_the_same(changes):
    network = timm_network(**changes)
    size, channels = changes.get('img_size', SIZE), changes.get('in_chans', 3)
    picture, hints = peers.images(size, channels=channels), Hints(img_size=(size, size))
    weights, of_microsoft = peers.weights_of(network), peers.microsoft_swin(network)
    expected = network.double()(picture)
    for naming, theirs in ((simmim.SWIN, of_microsoft), (timm_format.SWIN, weights)):
        encoder = naming.read(theirs, hints)
        assert peers.difference(expected, encoder.build(torch.float64)(picture)[-1].mean((-2, -1))) < 1e-9
        peer = naming.peer(encoder.cfg, theirs).double()
        assert peers.difference(expected, peer.features(picture)) < 1e-9
    assert peers.same_weights(timm_format.SWIN.write(encoder)[0], weights)
    peer = openmmlab.SWIN.peer(encoder.cfg, openmmlab.SWIN.write(encoder)[0]).double()
    assert peers.difference(expected, peer.features(picture)) < 1e-9


@pytest.mark.parametrize(
    ('outputs', 'early'), [((3,), ()), ((0, 1, 2, 3), (0, 1, 2))], ids=['last', 'norms for a dense decoder']
)
@torch.no_grad()
def test_mmpretrains_weights_come_back_and_compute_the_same_in_timm(outputs, early):
    network = mm_network(out_indices=outputs)
    weights = peers.weights_of(network)
    encoder = openmmlab.SWIN.read(weights, HINTS)
    assert peers.same_weights(encoder.weights, weights) and not encoder.folded
    assert peers.same_weights(openmmlab.SWIN.write(encoder)[0], weights)
    written, dropped = timm_format.SWIN.write(encoder)
    early = {f'norm{i}.{part}' for i in early for part in ('weight', 'bias')}
    assert dropped.keys() - endings(dropped, INDEX).keys() == early
    kept = {name: tensor for name, tensor in weights.items() if name not in early}
    assert peers.same_weights(timm_format.SWIN.read(written, HINTS).weights, kept)
    peer = timm_format.SWIN.peer(encoder.cfg, written).double()
    expected = network.double()(peers.images(SIZE))[-1].mean((-2, -1))
    assert peers.difference(expected, peer.features(peers.images(SIZE))) < 1e-9


@torch.no_grad()
def test_without_a_last_norm_it_is_mmpretrains_alone():
    network = mm_network(norm_cfg=None)
    encoder = openmmlab.SWIN.read(peers.weights_of(network), HINTS)
    peer = openmmlab.SWIN.peer(encoder.cfg, encoder.weights).double()
    picture = peers.images(SIZE)
    assert peers.difference(network.double()(picture)[-1], peer.features(picture)) < 1e-9
    with pytest.raises(ConversionError, match='norm3'):
        timm_format.SWIN.write(encoder)


def test_what_is_computed_is_listed_and_regenerated():
    weights = peers.microsoft_swin(timm_network())
    computed = endings(weights, INDEX, MASK)
    # The last stage has a single window, and therefore no masks.
    assert len(endings(computed, INDEX)) == 9 and len(endings(computed, MASK)) == 3
    encoder = simmim.SWIN.read(weights, HINTS)
    assert encoder.folded.keys() == computed.keys()
    expected = endings(mm_network().state_dict(), INDEX)
    assert peers.same_weights(endings(encoder.weights, INDEX), expected)
    bare = {name: tensor for name, tensor in weights.items() if name not in computed}
    assert peers.same_weights(simmim.SWIN.read(bare, HINTS).weights, encoder.weights)


@pytest.mark.parametrize('naming', [openmmlab.SWIN, simmim.SWIN])
def test_another_order_of_positions_is_refused(naming):
    own = naming is openmmlab.SWIN
    weights = mm_network().state_dict() if own else peers.microsoft_swin(timm_network())
    name = next(name for name in endings(weights, INDEX) if '.1.blocks.1.' in name)
    for wrong in (weights[name].T, weights[name].flip(1), weights[name][1:], weights[name] + 1):
        with pytest.raises(ConversionError, match=INDEX):
            naming.read(weights | {name: wrong}, HINTS)


def test_masks_tell_the_image_size_and_are_held_against_it():
    larger = peers.microsoft_swin(timm_network(img_size=2 * SIZE))
    assert simmim.SWIN.read(larger, Hints()).cfg['img_size'] == 2 * SIZE
    with pytest.raises(ConversionError, match=MASK):
        simmim.SWIN.read(larger, HINTS)
    weights = peers.microsoft_swin(timm_network())
    with pytest.raises(ConversionError, match=MASK):
        simmim.SWIN.read(weights | {f'layers.1.blocks.1.{MASK}': torch.zeros(16, 9, 9)}, HINTS)


def test_masks_of_mmcls_0_are_computed_too():
    weights = mm_network().state_dict()
    masks = {
        name.replace('layers', 'stages').replace(MASK, f'attn.{MASK}'): buffer
        for name, buffer in endings(dict(timm_network().named_buffers()), MASK).items()
    }
    encoder = openmmlab.SWIN.read(weights | masks, HINTS)
    assert peers.same_weights(encoder.weights, weights) and encoder.folded.keys() == masks.keys()
    openmmlab.SWIN.peer(encoder.cfg, weights | masks)


@pytest.mark.parametrize(('window', 'size'), [(6, 192), (7, 224), (12, 384)])
def test_the_image_size_is_that_of_released_weights(window, size):
    depths = [1, 1, 1, 1]
    weights = timm_network(img_size=size, window_size=window, depths=depths).state_dict()
    cfg = timm_format.SWIN.read(weights, Hints()).cfg
    sizes = peers.SWIN | dict(depths=depths)
    assert (cfg['img_size'], cfg['window_size'], cfg['arch']) == (size, window, sizes)


@pytest.mark.parametrize('sides', [(SIZE + 32, SIZE + 32), (SIZE, 2 * SIZE)])
def test_image_sizes_where_libraries_differ_stay_in_mmpretrain(sides):
    encoder = openmmlab.SWIN.read(mm_network(img_size=sides).state_dict(), Hints(img_size=sides))
    with pytest.raises(ConversionError, match='multiple of 96'):
        timm_format.SWIN.write(encoder)


def test_windows_of_different_sizes_are_refused():
    weights = timm_network(window_size=(3, 3, 2, 3)).state_dict()
    with pytest.raises(ConversionError, match='windows of different sizes'):
        timm_format.SWIN.read(weights, HINTS)
