"""A2MIMViT against mmpretrain's VisionTransformer and BEiT, and against itself under the host's machinery."""

import copy

import pytest
import torch
from mmpretrain.models import VisionTransformer
from mmpretrain.models.utils.attention import BEiTAttention
from mmpretrain.models.utils.embed import resize_pos_embed
from torch import nn

from a2mim_mm.backbones.relative_position import resize_bias_table
from a2mim_mm.backbones.vit import A2MIMViT

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
TABLE = 'relative_position_bias_table'
LAYER_TABLES = [f'layers.{i}.attn.{TABLE}' for i in range(3)]
SIZES = [(12, 20), (16, 16), (24, 8)]  # with patch 4: grids (3, 5), (4, 4), (6, 2)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build(cls=A2MIMViT, img_size=(12, 20), randomise=True, **kwargs):
    kwargs = dict(dict(arch=ARCH, patch_size=4, out_type='featmap'), **kwargs)
    model = cls(img_size=img_size, **kwargs).double()
    if randomise:  # all of them: a zero table or LayerNorm bias hides mistakes
        for param in model.parameters():
            nn.init.normal_(param, std=0.5)
    model.eval()
    return model


def images(size_hw=(12, 20), batch=2):
    return torch.randn(batch, 3, *size_hw, dtype=torch.float64)


def tables(model):
    return [param for name, param in model.named_parameters() if name.endswith(TABLE)]


def zero_tables(model):
    for table in tables(model):
        nn.init.zeros_(table)
    return model


# Names


@pytest.mark.parametrize('with_cls', [True, False])
def test_names_without_bias_are_the_parents(with_cls):
    ours = build(rel_pos_bias=None, with_cls_token=with_cls).state_dict()
    parents = build(VisionTransformer, with_cls_token=with_cls).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in parents.items()}
    assert list(ours) == list(parents)


@pytest.mark.parametrize(('rel_pos_bias', 'names'), [('layer', LAYER_TABLES), ('shared', [TABLE])])
@pytest.mark.parametrize(('with_cls', 'rows'), [(True, 5 * 9 + 3), (False, 5 * 9)])
def test_names_with_bias(rel_pos_bias, names, with_cls, rows):
    model = build(rel_pos_bias=rel_pos_bias, with_cls_token=with_cls, randomise=False)
    state = model.state_dict()
    assert set(state) == set(build(VisionTransformer, with_cls_token=with_cls).state_dict()) | set(names)
    assert not list(model.named_buffers())  # the index is no state
    for name in names:
        assert state[name].shape == (rows, 2)
        assert not state[name].any()


def test_names_without_absolute_position():
    with_pos = build().state_dict()
    without = build(abs_pos_embed=False)
    assert set(with_pos) - set(without.state_dict()) == {'pos_embed'}
    assert 'pos_embed' not in dict(without.named_parameters())


def test_layer_scale_is_off_unless_asked_for():
    assert not any('gamma' in name for name in build().state_dict())
    model = build(layer_scale_init_value=0.1, randomise=False)
    torch.testing.assert_close(model.layers[1].attn.gamma1.weight, torch.full((16,), 0.1).double())
    parent = build(VisionTransformer, layer_scale_init_value=0.1)
    nn.init.normal_(model.layers[1].attn.gamma1.weight)
    parent.load_state_dict({k: v for k, v in model.state_dict().items() if TABLE not in k})
    torch.testing.assert_close(model(x := images()), parent(x))


def test_deit_small_is_the_papers_vit_s():
    model = A2MIMViT(arch='deit-small')
    assert (model.embed_dims, model.num_layers, model.layers[0].attn.num_heads) == (384, 12, 6)
    assert 21e6 < sum(p.numel() for p in model.parameters()) < 23e6


# Values


@pytest.mark.parametrize('size_hw', SIZES)
@pytest.mark.parametrize('with_cls', [True, False])
@pytest.mark.parametrize('rel_pos_bias', ['layer', 'shared', None])
def test_zero_bias_equals_parent(rel_pos_bias, with_cls, size_hw):
    kwargs = dict(with_cls_token=with_cls, out_indices=[0, 2])
    ours = zero_tables(build(rel_pos_bias=rel_pos_bias, **kwargs))
    parent = build(VisionTransformer, **kwargs)
    parent.load_state_dict({k: v for k, v in ours.state_dict().items() if TABLE not in k})
    x = images(size_hw)
    out = ours(x)
    assert [feat.shape for feat in out] == [(2, 16, size_hw[0] // 4, size_hw[1] // 4)] * 2
    torch.testing.assert_close(out, parent(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('size_hw', SIZES)
@pytest.mark.parametrize('with_cls', [True, False])
def test_equal_tables_are_a_shared_table(with_cls, size_hw):
    layer = build(with_cls_token=with_cls)
    shared = build(rel_pos_bias='shared', with_cls_token=with_cls)
    state = layer.state_dict()
    state = {**{k: v for k, v in state.items() if TABLE not in k}, TABLE: state[LAYER_TABLES[0]]}
    shared.load_state_dict(state)
    layer.load_state_dict(layer.state_dict() | {name: state[TABLE] for name in LAYER_TABLES})
    x = images(size_hw)
    torch.testing.assert_close(layer(x), shared(x))
    assert not torch.allclose(shared(x)[0], zero_tables(shared)(x)[0])


def beit_attention(attn, grid_hw, table):
    """mmpretrain's BEiT attention, which has no bias for the keys, with the weights of ours."""
    beit = BEiTAttention(16, 2, window_size=grid_hw, use_rel_pos_bias=True, bias='qv_bias').double()
    q_bias, k_bias, v_bias = attn.qkv.bias.detach().chunk(3)
    assert k_bias.any()  # ours has one: it must make no difference
    state = {k: v for k, v in attn.state_dict().items() if k not in ('qkv.bias', TABLE)}
    state |= {'q_bias': q_bias, 'v_bias': v_bias, TABLE: table}
    beit.load_state_dict(state | {'relative_position_index': beit.relative_position_index})
    return beit


@pytest.mark.parametrize('grid_hw', [(3, 5), (4, 4), (6, 2)])
@pytest.mark.parametrize('rel_pos_bias', ['layer', 'shared'])
def test_random_bias_equals_beit(rel_pos_bias, grid_hw):
    """The whole network, with mmpretrain's BEiT attention of the same grid in each layer."""
    ours = build(rel_pos_bias=rel_pos_bias)
    peer = build(VisionTransformer)
    peer.load_state_dict({k: v for k, v in ours.state_dict().items() if TABLE not in k})
    for i, layer in enumerate(ours.layers):
        table = tables(ours)[i if rel_pos_bias == 'layer' else 0].detach()
        peer.layers[i].attn = beit_attention(layer.attn, grid_hw, resize_bias_table(table, (3, 5), grid_hw))
    x = images((4 * grid_hw[0], 4 * grid_hw[1]))
    torch.testing.assert_close(ours(x), peer(x), rtol=1e-9, atol=1e-9)


def test_no_absolute_position_is_a_zero_one():
    model, peer = build(abs_pos_embed=False), build()
    peer.load_state_dict(model.state_dict() | {'pos_embed': torch.zeros_like(peer.pos_embed)})
    for size_hw in SIZES:
        x = images(size_hw)
        torch.testing.assert_close(model(x), peer(x))


@pytest.mark.parametrize('size_hw', SIZES[:2])
@pytest.mark.parametrize('rel_pos_bias', ['layer', 'shared'])
def test_gradient_reaches_every_parameter(rel_pos_bias, size_hw):
    model = build(rel_pos_bias=rel_pos_bias)
    model(images(size_hw))[0].square().sum().backward()
    for name, param in model.named_parameters():
        assert param.grad is not None and param.grad.any(), name
    if size_hw == (12, 20):  # not resampled: each offset occurs
        for table in tables(model):
            # The featmap shows no cls token, so its own attention in the last layer has no gradient.
            assert table.grad[:45].any(dim=1).all()


def test_input_sizes_do_not_remember_each_other():
    model = build()
    first, other = images((12, 20)), images((24, 8))
    expected = model(first)
    model(other)
    assert torch.equal(model(first)[0], expected[0])


# Modes and machinery


def test_train_and_eval_return_self():
    model = build()
    assert model.eval() is model and not model.layers[0].training
    assert model.train() is model and model.layers[0].training


def test_frozen_stages():
    model = build(rel_pos_bias='shared', frozen_stages=2, drop_rate=0.5)
    model.train()
    frozen = {name for name, param in model.named_parameters() if not param.requires_grad}
    stem = {'cls_token', 'pos_embed', TABLE, 'patch_embed.projection.weight', 'patch_embed.projection.bias'}
    assert stem <= frozen
    assert {name for name in frozen - stem if not name.startswith(('layers.0.', 'layers.1.'))} == set()
    assert not model.layers[1].training and model.layers[2].training and not model.drop_after_pos.training
    layers = build(frozen_stages=2)
    assert [table.requires_grad for table in tables(layers)] == [False, False, True]
    assert all(param.requires_grad for param in build(rel_pos_bias='shared').parameters())


def test_layer_depth():
    model = build(rel_pos_bias='shared')
    for name in (TABLE, 'pos_embed', 'cls_token', 'patch_embed.projection.weight'):
        assert model.get_layer_depth(name) == (0, 5)
    assert model.get_layer_depth(f'backbone.{TABLE}', 'backbone.') == (0, 5)
    for i, name in enumerate(LAYER_TABLES):
        assert model.get_layer_depth(f'backbone.{name}', 'backbone.') == (i + 1, 5)
    assert model.get_layer_depth('ln1.weight') == (4, 5)
    assert model.get_layer_depth(f'head.{TABLE}', 'backbone.') == (4, 5)


def test_deepcopy_is_independent():
    model = build()
    twin = copy.deepcopy(model)
    x = images()
    assert torch.equal(model(x)[0], twin(x)[0])
    before = model(x)[0]
    twin.load_state_dict(build(img_size=(16, 16)).state_dict())  # the copy's own hook resamples, too
    assert torch.equal(model(x)[0], before)
    assert not torch.allclose(twin(x)[0], before)


@pytest.mark.parametrize('rel_pos_bias', ['layer', 'shared'])
def test_compiled_equals_eager(rel_pos_bias):
    """In one graph. This backend only traces; a slow test of windows derives the backward graph, too."""
    torch.compiler.reset()
    model, x = build(arch=dict(ARCH, num_layers=1), rel_pos_bias=rel_pos_bias, drop_path_rate=0.1), images()
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    torch.testing.assert_close(compiled(x)[0], model(x)[0], rtol=1e-5, atol=1e-5)
    torch.compiler.reset()


# State dicts of another size


def test_loads_a_square_state_dict_into_another_grid():
    source, model = build(img_size=(16, 16)), build(img_size=(12, 20))
    state = source.state_dict()
    model.load_state_dict(state)
    torch.testing.assert_close(
        model.pos_embed.data, resize_pos_embed(state['pos_embed'], (4, 4), (3, 5), 'bicubic', 1)
    )
    for ours, theirs in zip(tables(model), tables(source), strict=True):
        torch.testing.assert_close(ours.data, resize_bias_table(theirs.data, (4, 4), (3, 5)))
    x = images((12, 20))
    torch.testing.assert_close(model(x), source(x))  # resampled once when loaded or at each forward
    assert state['pos_embed'].shape == (1, 17, 16)  # the caller's dict is left alone


@pytest.mark.parametrize('rel_pos_bias', ['layer', 'shared'])
def test_loads_under_a_prefix(rel_pos_bias):
    source = nn.ModuleDict({'backbone': build(img_size=16, rel_pos_bias=rel_pos_bias)})
    model = nn.ModuleDict({'backbone': build(img_size=(12, 20), rel_pos_bias=rel_pos_bias)})
    model.load_state_dict(source.state_dict())
    x = images((24, 8))
    assert model['backbone'](x)[0].shape == (2, 16, 6, 2)


def test_loads_without_the_cls_token_of_the_state_dict():
    source, model = build(img_size=16), build(img_size=(12, 20), with_cls_token=False)
    result = model.load_state_dict(source.state_dict(), strict=False)
    assert (result.missing_keys, result.unexpected_keys) == ([], ['cls_token'])
    expected = resize_pos_embed(source.pos_embed.data[:, 1:], (4, 4), (3, 5), 'bicubic', 0)
    torch.testing.assert_close(model.pos_embed.data, expected)
    expected = resize_bias_table(tables(source)[0].data[:-3], (4, 4), (3, 5))
    torch.testing.assert_close(tables(model)[0].data, expected)


@pytest.mark.parametrize('abs_pos_embed', [True, False])
def test_tells_grids_of_equal_length_apart(abs_pos_embed):
    """36 patches: 6 x 6 or 4 x 9. The tables have 121 or 119 offsets, so the square one is recognised."""
    source = build(img_size=(24, 24), abs_pos_embed=abs_pos_embed)
    model = build(img_size=(16, 36), abs_pos_embed=abs_pos_embed)
    model.load_state_dict(source.state_dict())
    if abs_pos_embed:
        expected = resize_pos_embed(source.pos_embed.data, (6, 6), (4, 9), 'bicubic', 1)
        torch.testing.assert_close(model.pos_embed.data, expected)
    torch.testing.assert_close(model(x := images((16, 36))), source(x))


@pytest.mark.parametrize(
    ('source', 'model_size', 'words'),
    [
        (dict(img_size=(12, 20)), (16, 16), r'Cannot infer the patch grid.*pos_embed.*layers\.0'),
        (dict(img_size=(16, 36)), (24, 24), 'Cannot infer the patch grid'),
        (dict(img_size=16, with_cls_token=False), 16, 'with a cls token'),
    ],
)
def test_refuses_a_grid_that_cannot_be_inferred(source, model_size, words):
    with pytest.raises(ValueError, match=words):
        build(img_size=model_size).load_state_dict(build(**source).state_dict())


def test_wrong_width_is_left_to_torch():
    wide = dict(ARCH, embed_dims=32)
    with pytest.raises(RuntimeError, match='size mismatch for pos_embed'):
        build().load_state_dict(build(arch=wide).state_dict())


# Mistakes


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(rel_pos_bias='both'), r"rel_pos_bias is 'both'; allowed: \('layer', 'shared', None\)"),
        (dict(rel_pos_bias=True), 'rel_pos_bias is True'),
        (dict(abs_pos_embed=None), 'abs_pos_embed is None; allowed: True, False'),
        (dict(img_size=(12, 21)), 'img_size is 12 x 21 .* 4 x 4'),
        (dict(frozen_stages=12), 'frozen_stages is 12; allowed: -1 to 3'),
        (dict(out_indices=3), r'out_indices is \[3\]; allowed: -3 to 2'),
        (dict(arch=dict(ARCH, num_heads=3)), 'embed_dims is 16; allowed: multiples of num_heads, 3'),
        (dict(with_cls_token=False, out_type='cls_token'), 'with_cls_token must be True'),
    ],
)
def test_constructor_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_constructor_refuses_an_unknown_argument():
    with pytest.raises(TypeError, match='rel_pos_biass'):
        build(rel_pos_biass='layer')


@pytest.mark.parametrize('size_hw', [(13, 20), (12, 22)])
def test_forward_refuses_a_size_that_the_patch_does_not_divide(size_hw):
    with pytest.raises(ValueError, match=f'size of the input is {size_hw[0]} x {size_hw[1]} .* 4 x 4'):
        build()(images(size_hw))


def test_argument_lists_are_left_alone():
    out_indices = [0, -1]
    model = build(out_indices=out_indices)
    assert out_indices == [0, -1]
    assert len(model(images())) == 2
    assert len(build(out_indices=(0, -1))(images())) == 2
