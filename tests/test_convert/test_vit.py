"""Namings of Vision Transformers, against networks of timm and mmpretrain that were really built."""

import re

import pytest
import torch
from helpers import peers
from mmpretrain.models.utils import build_2d_sincos_position_embedding
from torch import nn

from a2mim_mm.backbones import A2MIMViT
from a2mim_mm.convert import ConversionError
from a2mim_mm.convert.encoder import resized
from a2mim_mm.convert.formats import openmixup, openmmlab, timm_beit, timm_relpos, timm_vit
from a2mim_mm.convert.naming import Hints

HINTS = Hints(heads=peers.HEADS)
TABLE, INDEX = 'relative_position_bias_table', 'relative_position_index'
MEAN = dict(out_type='avg_featmap', final_norm=False)
SHARED = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True)
ABSOLUTE = dict(use_rel_pos_bias=False, use_abs_pos_emb=True)
PEERS = {
    'mm': (openmmlab.VIT, peers.mm_vit, {}),
    'mm-mean': (openmmlab.VIT, peers.mm_vit, MEAN),
    'mm-no-cls': (openmmlab.VIT, peers.mm_vit, dict(with_cls_token=False)),
    'mm-scale': (openmmlab.VIT, peers.mm_vit, dict(layer_scale_init_value=0.1)),
    'mm-no-bias': (openmmlab.VIT, peers.mm_vit, dict(qkv_bias=False)),
    'mm-small-patch': (openmmlab.VIT, peers.mm_vit, dict(patch_size=8, img_size=32)),
    'beit': (openmmlab.BEIT, peers.mm_beit, {}),
    'beit-shared': (openmmlab.BEIT, peers.mm_beit, SHARED),
    'beit-both': (openmmlab.BEIT, peers.mm_beit, dict(use_abs_pos_emb=True)),
    'beit-absolute': (openmmlab.BEIT, peers.mm_beit, ABSOLUTE),
    'beit-no-scale': (openmmlab.BEIT, peers.mm_beit, dict(layer_scale_init_value=0)),
    'beit-mean': (openmmlab.BEIT, peers.mm_beit, MEAN),
    'timm': (timm_vit.VIT, peers.timm_vit, {}),
    'timm-scale': (timm_vit.VIT, peers.timm_vit, dict(init_values=0.1)),
    'timm-mean': (timm_vit.VIT, peers.timm_vit, dict(global_pool='avg')),
    'timm-no-cls': (timm_vit.VIT, peers.timm_vit, dict(class_token=False, global_pool='')),
    'timm-no-cls-row': (timm_vit.VIT, peers.timm_vit, dict(no_embed_class=True, init_values=0.1)),
    'timm-mlp': (timm_vit.VIT, peers.timm_vit, dict(mlp_ratio=3)),
    'timm-beit': (timm_beit.BEIT, peers.timm_beit, {}),
    'timm-beit-shared': (timm_beit.BEIT, peers.timm_beit, SHARED),
    'timm-beit-absolute': (timm_beit.BEIT, peers.timm_beit, ABSOLUTE | dict(init_values=None)),
    'timm-beit-both': (timm_beit.BEIT, peers.timm_beit, dict(use_abs_pos_emb=True)),
    'timm-beit-mean': (timm_beit.BEIT, peers.timm_beit, dict(global_pool='avg')),
    'timm-relpos': (timm_relpos.RELPOS, peers.timm_relpos, {}),
    'timm-relpos-shared': (timm_relpos.RELPOS, peers.timm_relpos, dict(shared_rel_pos=True)),
    'timm-relpos-no-cls': (
        timm_relpos.RELPOS,
        peers.timm_relpos,
        dict(class_token=False, global_pool='avg', fc_norm=False),
    ),
    'timm-relpos-mean': (
        timm_relpos.RELPOS,
        peers.timm_relpos,
        dict(global_pool='avg', fc_norm=True, shared_rel_pos=True),
    ),
}


def case(key, **changes):
    """Naming, random network and its weights."""
    naming, build, settings = PEERS[key]
    network = peers.randomised(build(**settings, **changes))
    return naming, network, peers.weights_of(network)


@pytest.mark.parametrize('key', PEERS)
def test_the_encoder_and_the_peer_compute_what_their_source_does(key):
    naming, network, weights = case(key)
    assert naming.claims(weights)
    encoder = naming.read(weights, HINTS)
    picture = peers.images(encoder.cfg['img_size'])
    expected = peers.run(network.double(), picture)
    assert peers.difference(expected, peers.run(encoder.build(torch.float64), picture)) < 1e-9
    theirs = naming.peer(encoder.cfg, weights).double().features(picture)
    assert peers.difference(expected, theirs) < 1e-9


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('key', PEERS)
def test_what_is_read_is_written_back_bit_for_bit(key, dtype):
    naming, network, _ = case(key)
    weights = peers.weights_of(network, dtype)
    encoder = naming.read(weights, HINTS)
    if key == 'timm-no-cls-row':
        weights['pos_embed'] = nn.functional.pad(weights['pos_embed'], (0, 0, 1, 0))
    if naming.express:
        written, dropped = naming.write(encoder)
        assert peers.same_weights(written, weights) and not dropped
    assert {tensor.dtype for tensor in encoder.weights.values()} == {dtype}


@pytest.mark.parametrize('key', ['beit', 'beit-shared', 'beit-both', 'beit-mean'])
def test_openmixup_differs_from_mmpretrain_in_names_only(key):
    _, network, weights = case(key)
    theirs, naming = {}, openmixup.VIT
    for name, tensor in weights.items():
        name = re.sub(r'^rel_pos_bias\.', 'shared_rel_pos_bias.', name)
        theirs[re.sub(r'^ln2\.', 'fc_norm.', name)] = tensor
    encoder = naming.read(theirs, HINTS)
    expected = openmmlab.BEIT.read(weights, HINTS)
    assert encoder.cfg == expected.cfg and peers.same_weights(encoder.weights, expected.weights)
    picture = peers.images()
    features = naming.peer(encoder.cfg, theirs).double().features(picture)
    assert peers.difference(peers.run(network.double(), picture), features) < 1e-9


@pytest.mark.parametrize('key', ['beit', 'timm-beit'])
def test_k_has_no_bias_where_q_and_v_have_theirs_apart(key):
    naming, _, weights = case(key)
    encoder = naming.read(weights, HINTS)
    for i in range(peers.LAYERS):
        stem = next(name for name in weights if name.endswith(f'.{i}.attn.q_bias')).removesuffix('q_bias')
        fused = encoder.weights[f'layers.{i}.attn.qkv.bias']
        parts = [weights[f'{stem}q_bias'], torch.zeros(peers.WIDTH), weights[f'{stem}v_bias']]
        assert torch.equal(fused, torch.cat(parts))
        assert encoder.folded[f'{stem}q_bias'] == encoder.folded[f'{stem}v_bias']


def test_a_bias_of_k_is_left_out_and_named():
    source, _, weights = case('mm')
    _, dropped = timm_beit.BEIT.write(source.read(weights, HINTS))
    assert sorted(dropped) == [f'layers.{i}.attn.qkv.bias (k)' for i in range(peers.LAYERS)]
    assert all('softmax' in reason for reason in dropped.values())


@pytest.mark.parametrize(
    'damage',
    [
        lambda index: index.t().contiguous(),
        lambda index: index.flip(0),
        lambda index: index.roll((-1, -1), (0, 1)),
        lambda index: index[:, :-1].contiguous(),
        lambda index: index + 1,
        lambda index: index[0, 0],
    ],
    ids=['transposed', 'flipped', 'cls at the end', 'cut', 'shifted', 'scalar'],
)
@pytest.mark.parametrize('key', ['beit', 'beit-shared', 'timm-beit'])
def test_another_order_of_relative_positions_is_refused(key, damage):
    naming, _, weights = case(key)
    index = case('beit')[2][f'layers.0.attn.{INDEX}']
    table = [name for name in weights if name.endswith(TABLE)][-1]
    name = table.replace(TABLE, INDEX)
    assert name in naming.read(weights | {name: index}, HINTS).folded
    with pytest.raises(ConversionError, match=f'{re.escape(name)} orders .* in another way than BEiT'):
        naming.read(weights | {name: damage(index)}, HINTS)


@pytest.mark.parametrize('key', ['mm', 'timm-no-cls'])
def test_heads_that_no_table_tells_must_be_given(key):
    naming, _, weights = case(key)
    with pytest.raises(ConversionError, match=r'width 64, 2 layers and 256 hidden units.*--arch heads=N'):
        naming.read(weights, Hints())
    with pytest.raises(ConversionError, match='5 heads do not divide the width 64'):
        naming.read(weights, Hints(heads=5))
    assert naming.read(weights, Hints(widths={peers.WIDTH: 8})).cfg['arch']['num_heads'] == 8


@pytest.mark.parametrize('key', ['beit', 'timm-beit', 'timm-relpos'])
def test_a_table_tells_the_heads(key):
    naming, _, weights = case(key)
    assert naming.read(weights, Hints()).cfg['arch']['num_heads'] == peers.HEADS


@pytest.mark.parametrize(
    ('arch', 'width', 'depth', 'hidden', 'heads'),
    [
        ('deit-tiny', 192, 12, 768, 3),
        ('deit-small', 384, 12, 1536, 6),
        ('base', 768, 12, 3072, 12),
        ('large', 1024, 24, 4096, 16),
        ('huge', 1280, 32, 5120, 16),
        ('small', 768, 8, 2304, 8),
    ],
)
def test_usual_sizes_need_no_heads(arch, width, depth, hidden, heads):
    sizes = dict(embed_dim=width, depth=depth, num_heads=heads, mlp_ratio=hidden / width)
    with torch.device('meta'):
        weights = peers.timm_vit(**sizes).state_dict()
    weights = {name: torch.empty(1).expand(tensor.shape) for name, tensor in weights.items()}
    assert timm_vit.VIT.read(weights, Hints()).cfg['arch'] == arch
    assert A2MIMViT.arch_zoo[arch]['num_heads'] == heads


@pytest.mark.parametrize('cls_row', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_positions_of_moco_v3_leave_the_heads_open(dtype, cls_row):
    with torch.device('meta'):
        names = peers.timm_vit(embed_dim=384, depth=12, num_heads=6).state_dict()
    weights = {name: torch.full(tensor.shape, 0.5, dtype=dtype) for name, tensor in names.items()}
    assert timm_vit.VIT.read(weights, Hints()).cfg['arch'] == 'deit-small'
    weights['pos_embed'] = build_2d_sincos_position_embedding(4, 384, cls_token=cls_row).to(dtype)
    with pytest.raises(ConversionError, match='MoCo v3.*12 heads.*--arch heads=N'):
        timm_vit.VIT.read(weights, Hints())
    read = timm_vit.VIT.read(weights, Hints(widths={384: 12}))
    assert read.cfg['arch']['num_heads'] == 12
    assert timm_vit.VIT.read(weights, Hints(heads=6)).cfg['arch'] == 'deit-small'


@pytest.mark.parametrize('key', ['mm', 'timm', 'timm-no-cls', 'beit-absolute'])
def test_a_grid_that_is_no_square_needs_a_hint(key):
    naming, network, weights = case(key, img_size=(96, 32))
    with pytest.raises(ConversionError, match='square grid'):
        naming.read(weights, HINTS)
    encoder = naming.read(weights, Hints(heads=peers.HEADS, img_size=(96, 32)))
    assert encoder.cfg['img_size'] == (96, 32)
    picture = peers.images((96, 32))
    expected = peers.run(network.double(), picture)
    assert peers.difference(expected, peers.run(encoder.build(torch.float64), picture)) < 1e-9
    with pytest.raises(ConversionError):
        naming.read(weights, Hints(heads=peers.HEADS, img_size=(64, 64)))


def test_patches_that_are_no_squares_are_refused():
    weights = case('timm')[2] | {'patch_embed.proj.weight': torch.zeros(peers.WIDTH, 3, 16, 8)}
    with pytest.raises(ConversionError, match='patches of 16 x 8'):
        timm_vit.VIT.read(weights, HINTS)


@pytest.mark.parametrize('key', ['beit', 'beit-shared', 'beit-both', 'timm-relpos-no-cls'])
def test_a_plain_vit_refuses_bias_tables_and_names_what_holds_them(key):
    naming, _, weights = case(key)
    with pytest.raises(ConversionError, match=r'relative position bias.*beit_\*.*vit_relpos_\*'):
        timm_vit.VIT.write(naming.read(weights, HINTS))


def test_each_naming_refuses_what_it_cannot_hold():
    for key, naming, words in (
        ('timm-relpos-no-cls', timm_beit.BEIT, 'has a cls token'),
        ('mm', timm_relpos.RELPOS, r'no position embedding: beit_\*'),
    ):
        source, _, weights = case(key)
        with pytest.raises(ConversionError, match=words):
            naming.write(source.read(weights, HINTS))


@pytest.mark.parametrize('naming', [openmmlab.VIT, timm_vit.VIT, timm_beit.BEIT])
@pytest.mark.parametrize('key', PEERS)
def test_every_naming_holds_every_encoder_or_says_no(key, naming):
    source, network, weights = case(key)
    encoder = source.read(weights, HINTS)
    picture = peers.images(encoder.cfg['img_size'])
    try:
        written, _ = naming.write(encoder)
        peer = naming.peer(encoder.cfg, written)
    except ConversionError:
        return
    expected = peers.run(network.double(), picture)
    assert peers.difference(expected, peer.double().features(picture)) < 1e-9
    again = naming.read(written, HINTS)
    assert again.cfg == encoder.cfg or naming is timm_beit.BEIT
    assert peers.difference(expected, peers.run(again.build(torch.float64), picture)) < 1e-9


@pytest.mark.parametrize('key', ['mm', 'beit-both', 'timm-relpos-no-cls', 'beit-shared'])
def test_another_image_size_resamples_positions_and_tables_only(key):
    naming, _, weights = case(key)
    encoder = naming.read(weights, HINTS)
    larger, names = resized(encoder, 96)
    assert set(names) == {name for name in encoder.weights if name.endswith(('pos_embed', TABLE))}
    assert larger.cfg == {**encoder.cfg, 'img_size': 96}
    for name, tensor in encoder.weights.items():
        assert name in names or torch.equal(larger.weights[name], tensor)
    picture = peers.images(96)
    ours = peers.run(encoder.build(torch.float64), picture)  # which resamples when it runs
    assert peers.difference(ours, peers.run(larger.build(torch.float64), picture)) < 1e-5
    same, names = resized(encoder, peers.SIZE)
    assert not names and peers.same_weights(same.weights, encoder.weights)
    for wrong in (0, -16, 70):
        with pytest.raises(ConversionError, match='multiple of the patch size 16'):
            resized(encoder, wrong)
