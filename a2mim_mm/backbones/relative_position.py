"""Relative position bias as pure functions: its index, its resampling, and attention with it.

Shape suffixes: b batch, l tokens (cls, if any, then h * w patches), n heads, c channels of one head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from a2mim_mm.errors import InputError

CLS_ROWS = 3  # the last rows of a table: cls to token, token to cls, cls to cls (BEiT's order)
Grid = tuple[int, int]


def num_offsets(grid_hw: Grid) -> int:
    """Number of distinct (row, column) offsets between patches of a (h, w) grid: (2h - 1)(2w - 1)."""
    h, w = grid_hw
    return (2 * h - 1) * (2 * w - 1)


def relative_position_index(grid_hw: Grid, with_cls: bool, device: torch.device | str = 'cpu') -> Tensor:
    """Row of the bias table for each pair (query, key) of tokens.

    Args:
        grid_hw: Patch grid (h, w).
        with_cls: Whether a cls token precedes the h * w patch tokens.
        device: Where the index is computed.

    Returns:
        int32 (l, l), l = with_cls + h * w. Query patch (i, j) and key patch (k, m) use row
        (i - k + h - 1)(2w - 1) + (j - m + w - 1), pairs with the cls token one of the last three.

    Source: BEiT, https://arxiv.org/abs/2106.08254 (the order of the rows is that of its released weights).
    """
    h, w = grid_hw
    y_l = torch.arange(h, dtype=torch.int32, device=device).repeat_interleave(w)
    x_l = torch.arange(w, dtype=torch.int32, device=device).repeat(h)
    dy_ll = y_l[:, None] - y_l + h - 1
    dx_ll = x_l[:, None] - x_l + w - 1
    index_ll = dy_ll * (2 * w - 1) + dx_ll
    if with_cls:
        first = num_offsets(grid_hw)
        index_ll = F.pad(index_ll, (1, 0), value=first + 1)  # column 0: token to cls
        index_ll = F.pad(index_ll, (0, 0, 1, 0), value=first)  # row 0: cls to token
        index_ll[0, 0] = first + 2
    return index_ll


def resize_bias_table(table: Tensor, src_hw: Grid, dst_hw: Grid) -> Tensor:
    """Resamples a relative position bias table from one patch grid to another.

    The table is a picture of (2h - 1, 2w - 1) offsets with offset (0, 0) at its centre. It is stretched about
    that centre, like the position embedding, because the new grid shows the same scene at another resolution.
    Interpolation is bicubic with ``align_corners=False``. So the stretch, (2h' - 1) / (2h - 1), is close to
    the embedding's h' / h, and the centre and the mirror symmetry are kept. PyTorch's kernel makes a linear
    ramp wavy by up to 5 % of a step. The antialiased one would not, but it has no gradient under
    ``torch.compile`` with changing sizes. The rows of the cls token have no position and are copied.

    Args:
        table: ((2h - 1)(2w - 1), heads), or three rows more, at the end, for the cls token.
        src_hw: Grid (h, w) of ``table``.
        dst_hw: Grid of the result.

    Returns:
        Table of ``dst_hw`` with the same dtype and device; ``table`` itself if the grids are equal.

    Raises:
        ValueError: ``table`` does not have the number of rows that ``src_hw`` asks for.
    """
    offsets = num_offsets(src_hw)
    if table.shape[0] not in (offsets, offsets + CLS_ROWS):
        raise InputError(
            f'table has shape {tuple(table.shape)}; allowed for src_hw={tuple(src_hw)}: {offsets} rows, '
            f'or {offsets + CLS_ROWS} with a cls token'
        )
    if tuple(src_hw) == tuple(dst_hw):
        return table
    src_size, dst_size = ((2 * h - 1, 2 * w - 1) for h, w in (src_hw, dst_hw))
    at_least_float32 = torch.promote_types(table.dtype, torch.float32)
    picture = table[:offsets].to(at_least_float32).t().unflatten(1, src_size)[None]
    picture = F.interpolate(picture, dst_size, mode='bicubic', align_corners=False)
    return torch.cat((picture[0].flatten(1).t().to(table.dtype), table[offsets:]))


def gather_bias(table: Tensor, index_ll: Tensor) -> Tensor:
    """Looks up the bias of each pair of tokens.

    Args:
        table: (rows, n) bias table of the grid that ``index_ll`` was made for.
        index_ll: Result of :func:`relative_position_index`.

    Returns:
        (1, n, l, l), contiguous, dtype of ``table``.
    """
    # index_select on the transposed table writes (n, l * l) directly: faster than table[index].permute.
    return table.t().index_select(1, index_ll.flatten()).view(1, -1, *index_ll.shape)


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout_p: float = 0.0) -> Tensor:
    """Multi-head attention with an additive bias, by the faster of two equal ways.

    On the CPU that is the formula: PyTorch's fused kernels are slower there if the bias needs a gradient.

    Args:
        q: (b, n, l, c), like ``k`` and ``v``. The result has its dtype, also with a float32 bias.
        k: Keys.
        v: Values.
        bias: Broadcastable to (b, n, l, l), four axes, contiguous; added to the logits. None: no bias.
        dropout_p: Probability of dropping an attention weight, in [0, 1).

    Returns:
        (b, n, l, c).
    """
    written_out = bias is not None and q.device.type == 'cpu'
    return (attention_formula if written_out else attention_sdpa)(q, k, v, bias, dropout_p)


def attention_formula(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout_p: float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(c) + bias) v, written out. Arguments: see :func:`attention`."""
    logits_bnll = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if bias is not None:
        logits_bnll = logits_bnll + bias.to(q.dtype)
    weights_bnll = F.dropout(logits_bnll.softmax(dim=-1), dropout_p).to(v.dtype)
    return weights_bnll @ v


def attention_sdpa(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout_p: float = 0.0) -> Tensor:
    """The same by PyTorch's fused kernels. Arguments: see :func:`attention`."""
    # A CUDA kernel has misread a mask whose dtype differs from q's (pytorch issue 191612). Rows whose length
    # is not a multiple of 8, such as 197 tokens, need no care: PyTorch pads them for the kernel that asks.
    bias = None if bias is None else bias.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout_p)
