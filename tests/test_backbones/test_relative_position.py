"""Index, resampling and attention, against references that share no code with them. Grids are not square."""

import itertools

import pytest
import torch
from helpers.reference import relative_bias
from timm.layers.pos_embed_rel import gen_relative_position_index
from torch.utils._python_dispatch import TorchDispatchMode

from a2mim_mm.backbones.relative_position import (
    attention,
    attention_formula,
    attention_sdpa,
    gather_bias,
    num_offsets,
    relative_position_index,
    resize_bias_table,
)

HEADS = 2


def random_table(grid_hw, with_cls, heads=HEADS):
    rows = num_offsets(grid_hw) + (3 if with_cls else 0)
    return torch.randn(rows, heads, dtype=torch.float64)


def slow_bias(table, grid_hw, with_cls):
    """Bias (heads, l, l) by a loop over pairs."""
    tokens = ['cls'] * with_cls + list(itertools.product(*map(range, grid_hw)))
    rows = [torch.stack([relative_bias(table, query, key, grid_hw) for key in tokens]) for query in tokens]
    return torch.stack(rows).permute(2, 0, 1)


@pytest.mark.parametrize('with_cls', [True, False])
@pytest.mark.parametrize('grid_hw', [(3, 5), (5, 3), (1, 4), (4, 4), (1, 1)])
def test_bias_equals_slow_lookup(grid_hw, with_cls):
    table = random_table(grid_hw, with_cls)
    bias = gather_bias(table, relative_position_index(grid_hw, with_cls))
    assert bias.is_contiguous()
    assert torch.equal(bias[0], slow_bias(table, grid_hw, with_cls))


@pytest.mark.parametrize('with_cls', [True, False])
def test_index_equals_timm(with_cls):
    expected = gen_relative_position_index((3, 5), class_token=with_cls)
    assert torch.equal(relative_position_index((3, 5), with_cls).long(), expected)


def test_resize_to_the_same_grid_is_identity():
    table = random_table((3, 5), True)
    assert resize_bias_table(table, (3, 5), [3, 5]) is table


@pytest.mark.parametrize('with_cls', [True, False])
@pytest.mark.parametrize('dst_hw', [(7, 4), (5, 3), (2, 2), (1, 9)])
def test_resize_keeps_constants_and_cls_rows(dst_hw, with_cls):
    table = torch.full((num_offsets((3, 5)), HEADS), 0.7, dtype=torch.float64)
    cls_rows = torch.randn(3 if with_cls else 0, HEADS, dtype=torch.float64)
    out = resize_bias_table(torch.cat((table, cls_rows)), (3, 5), dst_hw)
    assert out.dtype == torch.float64
    assert out.shape == (num_offsets(dst_hw) + len(cls_rows), HEADS)
    torch.testing.assert_close(out[: num_offsets(dst_hw)], torch.full_like(out[: num_offsets(dst_hw)], 0.7))
    assert torch.equal(out[num_offsets(dst_hw) :], cls_rows)


def test_resize_keeps_ramps_centre_and_axes():
    """Head 0 is the row offset, head 1 the column offset, in patches: each is stretched alone."""
    (h, w), (new_h, new_w) = (6, 9), (11, 15)
    dy, dx = torch.meshgrid(
        torch.arange(1.0 - h, h, dtype=torch.float64),
        torch.arange(1.0 - w, w, dtype=torch.float64),
        indexing='ij',
    )
    table = torch.stack((dy.flatten(), dx.flatten()), dim=1)
    out = resize_bias_table(table, (h, w), (new_h, new_w))
    dy_new, dx_new = out.t().unflatten(1, (2 * new_h - 1, 2 * new_w - 1))
    expected_dy = torch.arange(1.0 - new_h, new_h, dtype=torch.float64) * (2 * h - 1) / (2 * new_h - 1)
    expected_dx = torch.arange(1.0 - new_w, new_w, dtype=torch.float64) * (2 * w - 1) / (2 * new_w - 1)
    inner = slice(5, -5)  # at the border the kernel meets the edge of the picture
    close = dict(rtol=0, atol=0.05)  # PyTorch's kernel is wavy by up to 5 % of a step
    torch.testing.assert_close(dy_new[inner], expected_dy[inner, None].expand(-1, 2 * new_w - 1), **close)
    torch.testing.assert_close(dx_new[:, inner], expected_dx[inner].expand(2 * new_h - 1, -1), **close)
    torch.testing.assert_close(dy_new, -dy_new.flip(0))
    torch.testing.assert_close(dx_new, -dx_new.flip(1))


def test_resize_computes_half_precision_in_float32():
    table = random_table((3, 5), True).bfloat16()
    out = resize_bias_table(table, (3, 5), (6, 4))
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, resize_bias_table(table.float(), (3, 5), (6, 4)).bfloat16())


def test_resize_passes_the_gradient():
    table = random_table((2, 3), True).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: resize_bias_table(t, (2, 3), (3, 2)), table)


@pytest.mark.parametrize('rows', [num_offsets((3, 5)) + 1, num_offsets((3, 5)) - 3, 0])
def test_resize_refuses_a_table_of_another_grid(rows):
    with pytest.raises(ValueError, match=rf'table has shape \({rows}, 2\).*src_hw=\(3, 5\).*45 rows, or 48'):
        resize_bias_table(torch.zeros(rows, 2), (3, 5), (3, 5))


def qkv_and_bias(length=15, channels=8, dtype=torch.float64):
    q, k, v = torch.randn(3, 2, HEADS, length, channels, dtype=dtype)
    bias = torch.randn(1, HEADS, length, length, dtype=dtype)
    return [tensor.requires_grad_() for tensor in (q, k, v, bias)]


def value_and_grads(function, inputs, weight):
    out = function(*inputs)
    return out, *torch.autograd.grad((out * weight).sum(), inputs)


@pytest.mark.parametrize('function', [attention_formula, attention_sdpa, attention])
@pytest.mark.parametrize('length', [15, 16])
def test_attention_equals_definition(function, length):
    inputs = qkv_and_bias(length)

    def definition(q, k, v, bias):
        logits = torch.einsum('bnlc,bnmc->bnlm', q, k) / q.shape[-1] ** 0.5 + bias
        weights = logits.exp() / logits.exp().sum(dim=-1, keepdim=True)
        return torch.einsum('bnlm,bnmc->bnlc', weights, v)

    weight = torch.randn_like(inputs[0])
    torch.testing.assert_close(
        value_and_grads(function, inputs, weight), value_and_grads(definition, inputs, weight)
    )


def test_attention_without_bias():
    q, k, v, bias = qkv_and_bias()
    expected = attention_formula(q, k, v, torch.zeros_like(bias))
    for function in (attention_formula, attention_sdpa, attention):
        torch.testing.assert_close(function(q, k, v, None), expected)


@pytest.mark.parametrize('function', [attention_formula, attention_sdpa])
def test_attention_keeps_the_dtype_of_q(function):
    q, k, v, bias = qkv_and_bias(dtype=torch.float32)
    half = [tensor.bfloat16() for tensor in (q, k, v)]
    out = function(*half, bias)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), function(q, k, v, bias), rtol=0.05, atol=0.05)


def test_formula_never_holds_logits_in_float32():
    class LogitDtypes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.shape == (2, HEADS, 15, 15):
                dtypes.add(out.dtype)
            return out

    dtypes = set()
    q, k, v, bias = qkv_and_bias(dtype=torch.float32)
    with LogitDtypes():
        attention_formula(q.bfloat16(), k.bfloat16(), v.bfloat16(), bias)
    assert dtypes == {torch.bfloat16}


@pytest.mark.parametrize('function', [attention_formula, attention_sdpa])
def test_attention_drops_weights(function):
    q, k, v, bias = (tensor.detach() for tensor in qkv_and_bias(length=64))
    ones = torch.ones_like(v)
    assert torch.equal(function(q, k, ones, bias, 0.5), function(q, k, ones, bias, 0.5)) is False
    mean = torch.stack([function(q, k, ones, bias, 0.5) for _ in range(20)]).mean()
    assert abs(mean - 1) < 0.1  # rescaled: right on average


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('length', [197, 200])
def test_cuda_sdpa_equals_formula(length):
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 5e-2)):
        inputs = [tensor.detach().to('cuda', dtype).requires_grad_() for tensor in qkv_and_bias(length, 64)]
        weight = torch.randn_like(inputs[0])
        fused = value_and_grads(attention, inputs, weight)
        written_out = value_and_grads(attention_formula, inputs, weight)
        torch.testing.assert_close(fused, written_out, rtol=tolerance, atol=tolerance)
