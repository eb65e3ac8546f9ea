"""Windows as pure functions, and WindowedA2MIMViT against a loop over them that shares no code with it."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from helpers.reference import relative_bias
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from mmpretrain.models.utils.embed import resize_pos_embed
from torch import nn

from a2mim_mm.backbones import vit
from a2mim_mm.backbones.relative_position import resize_bias_table
from a2mim_mm.backbones.vit import A2MIMViT
from a2mim_mm.backbones.windowed_vit import WindowedA2MIMViT
from a2mim_mm.backbones.windows import merge_windows, padding_bias, split_windows

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
TABLE = 'relative_position_bias_table'
# Patches (h, w) and side of a window: padded both ways, one way, not at all, and windows larger than the map.
MAPS = [((5, 7), 3), ((4, 6), 3), ((6, 4), 2), ((2, 3), 4)]
CASES = [
    (bias, cls) for bias in ('layer', 'shared', None) for cls in (True, False)
]  # of rel_pos_bias and with_cls_token


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build(num_layers=3, grid_hw=(3, 5), **kwargs):
    """With tables for a grid that is no window's, and random weights: a zero one hides mistakes."""
    kwargs = dict(dict(out_type='raw', arch=dict(ARCH, num_layers=num_layers)), **kwargs)
    kind = WindowedA2MIMViT if 'window_size' in kwargs else A2MIMViT
    model = kind(img_size=(4 * grid_hw[0], 4 * grid_hw[1]), patch_size=4, **kwargs).double()
    for param in model.parameters():
        nn.init.normal_(param, std=0.5)
    return model.eval()


def images(grid_hw, batch=2):
    return torch.randn(batch, 3, 4 * grid_hw[0], 4 * grid_hw[1], dtype=torch.float64)


# The pure functions


maps = st.tuples(st.integers(1, 9), st.integers(1, 9))
sides = st.integers(1, 11)


def tokens(grid_hw, extra, batch=2, width=3):
    """Tokens (batch, extra + h * w, width) of whole numbers, all different and none of them 0."""
    shape = (batch, extra + math.prod(grid_hw), width)
    return torch.arange(1, 1 + math.prod(shape), dtype=torch.float64).view(shape)


def slow_split(tok_bld, grid_hw, side):
    """The windows of all images, padded with 0, by a loop over rows and columns."""
    h, w = grid_hw
    extra, windows = tok_bld.shape[1] - h * w, []
    for image in tok_bld:
        for top in range(0, h, side):
            for left in range(0, w, side):
                window = list(image[:extra])
                for y in range(top, top + side):
                    for x in range(left, left + side):
                        inside = y < h and x < w
                        window.append(image[extra + y * w + x] if inside else torch.zeros_like(image[0]))
                windows.append(torch.stack(window))
    return torch.stack(windows)


@given(maps, sides, st.integers(0, 2), st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_split_equals_a_loop_and_merge_undoes_it(grid_hw, side, extra, batch):
    tok_bld = tokens(grid_hw, extra, batch)
    windows, expected = split_windows(tok_bld, grid_hw, side), slow_split(tok_bld, grid_hw, side)
    assert torch.equal(windows, expected)
    # merging does not look at the padding
    padded = expected[..., :1] == 0
    assert torch.equal(merge_windows(windows.masked_fill(padded, math.nan), grid_hw, side), tok_bld)
    # the padding is hidden, and nothing else is
    bias = padding_bias(tok_bld, grid_hw, side)
    assert (bias is None) == all(length % side == 0 for length in grid_hw)
    if bias is not None:
        assert torch.equal(bias, torch.where(padded[..., 0], -math.inf, 0.0).double()[:, None, None])


def test_merge_averages_the_copies_of_extra_tokens():
    windows = split_windows(tokens((5, 7), extra=2), (5, 7), 3)  # 2 images x 6 windows
    windows[:, 0] = torch.tensor([1, 2, 3, 4, 5, 9, 0, 0, 0, 0, 6, 0]).double()[:, None]
    windows[:, 1] *= 2
    merged = merge_windows(windows, (5, 7), 3)
    assert merged[:, 0].tolist() == [[4.0] * 3, [1.0] * 3]
    assert torch.equal(merged[:, 1], 2 * tokens((5, 7), extra=2)[:, 1])
    assert torch.equal(merged[:, 2:], tokens((5, 7), extra=2)[:, 2:])


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_padding_bias_has_the_dtype_of_the_tokens(dtype):
    assert padding_bias(tokens((2, 3), 1).to(dtype), (2, 3), 2).dtype == dtype


# The network against a loop


def slow_attention(attn, tok_ld, grid_hw, side_hw, table):
    """Attention of one image, window by window of (h, w) patches: of the real ones, so nothing is padded."""
    (h, w), (side_h, side_w), width = grid_hw, side_hw, tok_ld.shape[1]
    q, k, v = (tok_ld @ attn.qkv.weight.T + attn.qkv.bias).split(width, dim=1)
    has_cls, channels, parts = len(tok_ld) - h * w, width // 2, [[] for _ in tok_ld]
    for top in range(0, h, side_h):
        for left in range(0, w, side_w):
            names = [
                (y, x) for y in range(top, min(top + side_h, h)) for x in range(left, min(left + side_w, w))
            ]
            rows = [has_cls + y * w + x for y, x in names]
            if has_cls:
                names, rows = ['cls', *names], [0, *rows]
            heads = []
            for n in range(2):
                one = slice(n * channels, (n + 1) * channels)
                logits = q[rows, one] @ k[rows, one].T / channels**0.5
                if table is not None:
                    rows_of = [
                        [relative_bias(table, query, key, side_hw)[n] for key in names] for query in names
                    ]
                    logits = logits + torch.stack([torch.stack(row) for row in rows_of])
                weights = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
                heads.append(weights @ v[rows, one])
            for row, out in zip(rows, torch.cat(heads, dim=1), strict=True):
                parts[row].append(out)
    mean = torch.stack([sum(part) / len(part) for part in parts])  # of cls; a patch is in one window
    return mean @ attn.proj.weight.T + attn.proj.bias


def slow_network(model, img, grid_hw, window, global_layers):
    """All tokens of one image; the model gives weights, norms and FFNs, none of its own attention."""
    patch = model.patch_embed.projection
    tok = F.conv2d(img[None], patch.weight, patch.bias, stride=4).flatten(2).transpose(1, 2)
    has_cls = model.cls_token is not None
    if has_cls:
        tok = torch.cat((model.cls_token, tok), dim=1)
    tok = (tok + resize_pos_embed(model.pos_embed, (3, 5), grid_hw, 'bicubic', int(has_cls)))[0]
    for i, layer in enumerate(model.layers):
        side_hw = grid_hw if i in global_layers else (window, window)
        table = getattr(layer.attn if model.rel_pos_bias == 'layer' else model, TABLE)
        table = None if table is None else resize_bias_table(table, (3, 5), side_hw)
        tok = tok + slow_attention(layer.attn, layer.ln1(tok), grid_hw, side_hw, table)
        tok = layer.ffn(layer.ln2(tok), identity=tok)
    return model.ln1(tok)


@pytest.mark.parametrize(('grid_hw', 'window'), MAPS)
@pytest.mark.parametrize(('rel_pos_bias', 'with_cls'), CASES)
def test_network_with_a_global_layer_equals_a_loop_over_windows(rel_pos_bias, with_cls, grid_hw, window):
    kwargs = dict(rel_pos_bias=rel_pos_bias, with_cls_token=with_cls, window_size=window)
    model, x = build(num_layers=2, **kwargs, global_layers=(1,)), images(grid_hw)
    expected = torch.stack([slow_network(model, img, grid_hw, window, (1,)) for img in x])
    torch.testing.assert_close(model(x)[0], expected, rtol=1e-9, atol=1e-9)


# The network against itself


@pytest.mark.parametrize('trained_hw', [(4, 4), (3, 5)])
@pytest.mark.parametrize(('rel_pos_bias', 'with_cls'), CASES)
def test_a_window_as_large_as_the_map_changes_nothing(rel_pos_bias, with_cls, trained_hw):
    """With tables of that grid (as pre-trained, at the size of the pre-training) and with others."""
    kwargs = dict(grid_hw=trained_hw, rel_pos_bias=rel_pos_bias, with_cls_token=with_cls)
    trained, model = build(**kwargs), build(**kwargs, window_size=4, global_layers=(2,))
    model.load_state_dict(trained.state_dict())
    x = images((4, 4))
    torch.testing.assert_close(model(x), trained(x), rtol=1e-12, atol=1e-12)
    smaller = build(**kwargs, window_size=2)
    smaller.load_state_dict(trained.state_dict())
    assert not torch.allclose(smaller(x)[0], trained(x)[0], atol=0.1)


@pytest.mark.parametrize('rel_pos_bias', ['layer', 'shared', None])
def test_names_and_shapes_do_not_depend_on_windows(rel_pos_bias):
    without = build(rel_pos_bias=rel_pos_bias)
    model = build(rel_pos_bias=rel_pos_bias, window_size=2, global_layers=[1])
    shapes = [[(k, v.shape) for k, v in net.state_dict().items()] for net in (without, model)]
    assert shapes[0] == shapes[1]
    assert not list(model.named_buffers())


def test_drop_path_drops_an_image_with_all_its_windows():
    model = build(window_size=3, drop_path_rate=0.8)  # 0, 0.4 and 0.8 in the three layers
    added = []
    for layer in model.layers:
        layer.attn.register_forward_hook(lambda module, args, out: added.append(out.detach()))
    model.train()
    model(images((5, 7), batch=32))
    fractions = []
    for out in added:
        here = (out != 0).any(dim=2)  # (images, tokens)
        assert torch.equal(here.any(dim=1), here.all(dim=1))
        fractions.append(here.all(dim=1).double().mean())
    assert fractions[0] == 1 and 0.3 < fractions[1] < 0.9 and 0.05 < fractions[2] < 0.5


@pytest.mark.parametrize(('rel_pos_bias', 'with_cls'), CASES)
def test_gradient_is_finite_and_reaches_every_parameter(rel_pos_bias, with_cls):
    model = build(rel_pos_bias=rel_pos_bias, with_cls_token=with_cls, window_size=3, global_layers=(1,))
    model(images((5, 7)))[0].square().sum().backward()
    for name, param in model.named_parameters():
        assert param.grad is not None and param.grad.isfinite().all() and param.grad.any(), name


@pytest.mark.parametrize('rel_pos_bias', ['layer', 'shared', None])
def test_autocast_is_near_float32(rel_pos_bias, monkeypatch):
    model = build(rel_pos_bias=rel_pos_bias, window_size=3, global_layers=(1,)).float()
    x = images((5, 7)).float()
    reference = model(x)[0]
    dtypes, attend = set(), vit.attention

    def recording(q, k, v, bias, dropout_p):
        out = attend(q, k, v, bias, dropout_p)
        dtypes.update((q.dtype, out.dtype))
        return out

    monkeypatch.setattr(vit, 'attention', recording)
    with torch.autocast('cpu', torch.bfloat16):
        out = model(x)[0]
    assert dtypes == {torch.bfloat16}
    assert out.isfinite().all()
    torch.testing.assert_close(out.float(), reference, rtol=0.1, atol=0.1)


@pytest.mark.slow
def test_compiled_equals_eager():
    """In one graph. A second size, less padded, makes sizes symbolic: tracing takes half a minute."""
    torch.compiler.reset()
    model = build(num_layers=2, rel_pos_bias='layer', window_size=3, global_layers=(1,), drop_path_rate=0.1)
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    for x in (images((5, 7)), images((6, 7))):
        expected, out = model(x)[0], compiled(x)[0]
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
        grads = [torch.autograd.grad(o.square().sum(), model.parameters()) for o in (expected, out)]
        torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)
    torch.compiler.reset()


@pytest.mark.filterwarnings('ignore:.*use_reentrant')
@pytest.mark.parametrize('rel_pos_bias', ['layer', 'shared'])
def test_activation_checkpointing_gives_the_same_gradient(rel_pos_bias):
    model = build(rel_pos_bias=rel_pos_bias, window_size=3, global_layers=(1,))
    twin = copy.deepcopy(model)
    turn_on_activation_checkpointing(twin, [f'layers.{i}' for i in range(3)])
    first, second = images((5, 7)), images((6, 3))
    for net in (model, twin):  # two sizes before one backward: a remembered grid would be the wrong one
        (net(first)[0].square().sum() + net(second)[0].square().sum()).backward()
    for (name, param), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(param.grad, other.grad, msg=name)


# Mistakes


@pytest.mark.parametrize('window_size', [0, -1, 2.5, True, False, '14', (14, 14)])
def test_refuses_a_window_size(window_size):
    with pytest.raises(ValueError, match='window_size is .*; allowed: positive numbers of patches'):
        build(window_size=window_size)


@pytest.mark.parametrize('global_layers', [(3,), [0, -1], (0.5,)])
def test_refuses_global_layers_that_are_not_there(global_layers):
    with pytest.raises(ValueError, match=r'global_layers is \(.*\); allowed: 0 to 2'):
        build(window_size=3, global_layers=global_layers)
