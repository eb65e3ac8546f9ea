"""What all namings of Vision Transformers share: the architecture read off the weights, and qkv biases.

Names here are those of the pivot, :class:`a2mim_mm.backbones.A2MIMViT`.
"""

import math
from collections.abc import Callable

import torch
from mmpretrain.models.utils import build_2d_sincos_position_embedding
from torch import Tensor, nn

from a2mim_mm.backbones.relative_position import CLS_ROWS, num_offsets, relative_position_index
from a2mim_mm.backbones.vit import TABLE, A2MIMViT

from ..encoder import ConversionError, Encoder, build_without_weights
from ..naming import Hints, Weights, check_against, count, require, shape_of

FAMILY = 'A2MIMViT'
LAYER_TABLE = f'layers.*.attn.{TABLE}'
_LAYER_SCALE = 1.0  # any number but 0 makes the parameters, which are then loaded
_MOCO_V3_WIDTH = 384
_ARCHES = ('deit-tiny', 'deit-small', 'base', 'large', 'huge', 'small')


def vit_encoder(weights: Weights, hints: Hints, folded: dict[str, str]) -> Encoder:
    """The pivot of a ViT whose weights have the pivot's names.

    Raises:
        ConversionError: If names are missing or unknown, the grid is neither square nor given by a hint, or
            the weights do not show the number of heads.
    """
    tables = [name for name in weights if name.endswith(TABLE)]
    if 'pos_embed' in weights:
        shape_of(weights, 'pos_embed', rank=3)
    width, channels, patch, patch_w = shape_of(weights, 'patch_embed.projection.weight', rank=4)
    if patch != patch_w:
        raise ConversionError(f'patches of {patch} x {patch_w} are not supported, only square ones')
    has_cls = 'cls_token' in weights
    grid_hw = _grid(weights, tables, has_cls, hints, patch)
    weights = _with_cls_position(weights, math.prod(grid_hw))
    depth = count(weights, 'layers.*.attn.qkv.weight')
    hidden = shape_of(weights, 'layers.0.ffn.layers.0.0.weight', rank=2)[0]
    cfg = dict(
        type=f'a2mim_mm.{FAMILY}',
        arch=_arch(width, depth, hidden, _heads(weights, tables, width, depth, hidden, hints)),
        img_size=grid_hw[0] * patch if grid_hw[0] == grid_hw[1] else tuple(side * patch for side in grid_hw),
        patch_size=patch,
        in_channels=channels,
        rel_pos_bias=('shared' if tables == [TABLE] else 'layer') if tables else None,
        abs_pos_embed='pos_embed' in weights,
        with_cls_token=has_cls,
        qkv_bias='layers.0.attn.qkv.bias' in weights,
        layer_scale_init_value=_LAYER_SCALE if 'layers.0.attn.gamma1.weight' in weights else 0.0,
        final_norm='ln1.weight' in weights,
        out_type='avg_featmap' if 'ln2.weight' in weights else 'raw',
    )
    check_against(build_without_weights(cfg), weights)
    return Encoder(cfg, weights, folded)


def arch_of(cfg: dict) -> dict[str, int]:
    """``embed_dims``, ``num_layers``, ``num_heads`` and ``feedforward_channels`` of a pivot's config."""
    return A2MIMViT.arch_zoo[cfg['arch']] if isinstance(cfg['arch'], str) else cfg['arch']


def grid_of(cfg: dict) -> tuple[int, int]:
    """Rows and columns of patches of a pivot's config."""
    size = cfg['img_size']
    height, width = (size, size) if isinstance(size, int) else size
    return height // cfg['patch_size'], width // cfg['patch_size']


def fuse_biases(weights: Weights, attention: str) -> tuple[Weights, dict[str, str]]:
    """Join q and v biases to one bias [q, 0, v]. A missing k bias equals a k bias of zero.

    Args:
        weights: Tensors, with ``q_bias`` and ``v_bias`` in attention modules.
        attention: Name of these modules, such as ``'layers.*.attn'``.

    Raises:
        ConversionError: If one of the two is missing.
    """
    fused, folded = dict(weights), {}
    separate = any(name.endswith(('.q_bias', '.v_bias')) for name in weights)
    for i in range(count(weights, f'{attention}.qkv.weight') if separate else 0):
        module = attention.replace('*', str(i))
        q, v = f'{module}.q_bias', f'{module}.v_bias'
        if shape_of(weights, q, rank=1) != shape_of(weights, v, rank=1):
            raise ConversionError(f'of another shape: {v} {tuple(weights[v].shape)}, not that of {q}')
        q_bias, v_bias = fused.pop(q), fused.pop(v)
        fused[f'{module}.qkv.bias'] = torch.cat((q_bias, torch.zeros_like(q_bias), v_bias))
        folded |= {name: 'part of the bias [q, 0, v]' for name in (q, v)}
    return fused, folded


def split_biases(weights: Weights) -> tuple[Weights, dict[str, str]]:
    """The inverse of :func:`fuse_biases`. A k bias other than zero is left out and named."""
    split, dropped = {}, {}
    for name, tensor in weights.items():
        if not name.endswith('.attn.qkv.bias'):
            split[name] = tensor
            continue
        q, k, v = tensor.chunk(3)
        module = name.removesuffix('.qkv.bias')
        split |= {f'{module}.q_bias': q.clone(), f'{module}.v_bias': v.clone()}
        if k.any():
            dropped[f'{name} (k)'] = 'adds q . b to all logits of a query, which softmax ignores'
    return split, dropped


def drop_indices(weights: Weights, suffix: str) -> tuple[Weights, dict[str, str]]:
    """Leave out the computed orders of relative positions, after checking that each is BEiT's.

    Raises:
        ConversionError: If the order is another.
    """
    kept, folded = {}, {}
    for name, tensor in weights.items():
        if not name.endswith(suffix):
            kept[name] = tensor
            continue
        require(weights, [name.removesuffix(suffix) + TABLE])
        side = math.isqrt(max(tensor.shape[:1].numel() - 1, 1))
        expected = relative_position_index((side, side), with_cls=True)
        if tensor.shape != expected.shape or not torch.equal(tensor.to(expected.dtype), expected):
            raise ConversionError(f'{name} orders relative positions in another way than BEiT')
        folded[name] = 'the order of relative positions, computed'
    return kept, folded


def beit_prepare(attention: str, index: str) -> Callable[[Weights], tuple[Weights, dict[str, str]]]:
    """What weights of BEiT need before renaming: leave out computed indices, join q, k and v biases."""

    def prepare(weights: Weights) -> tuple[Weights, dict[str, str]]:
        weights, computed = drop_indices(weights, index)
        weights, folded = fuse_biases(weights, attention)
        return weights, computed | folded

    return prepare


def tokens_or_mean(cfg: dict, tokens: Callable[[Tensor], Tensor], norm: nn.Module | None) -> Callable:
    """``features`` of a ViT: all tokens, or the normalised mean of those of patches."""
    if cfg['out_type'] != 'avg_featmap':
        return tokens
    first = int(cfg['with_cls_token'])
    return lambda image: norm(tokens(image)[:, first:].mean(dim=1))


def _grid(weights: Weights, tables: list[str], has_cls: bool, hints: Hints, patch: int) -> tuple[int, int]:
    """Rows and columns of the patches that have positions."""
    if hints.img_size is not None:
        return hints.img_size[0] // patch, hints.img_size[1] // patch
    if 'pos_embed' in weights:
        rows = weights['pos_embed'].shape[1]
        for patches in (rows - has_cls, rows):  # DeiT III gives cls no position
            if math.isqrt(patches) ** 2 == patches:
                return (math.isqrt(patches),) * 2
        raise ConversionError(
            f'pos_embed has {rows} rows, which do not form a square grid of patches and a cls token'
        )
    if not tables:
        raise ConversionError('there is neither pos_embed nor a relative position bias table')
    rows = shape_of(weights, tables[0], rank=2)[0]
    side = (math.isqrt(rows) + 1) // 2
    if num_offsets((side, side)) + CLS_ROWS * has_cls != rows:
        raise ConversionError(f'{tables[0]} has {rows} rows, which do not belong to a square grid of patches')
    return side, side


def _with_cls_position(weights: Weights, patches: int) -> Weights:
    """A position of zero for a cls token that has none."""
    position = weights.get('pos_embed')
    if position is None or 'cls_token' not in weights or position.shape[1] != patches:
        return weights
    return {**weights, 'pos_embed': nn.functional.pad(position, (0, 0, 1, 0))}


def _heads(weights: Weights, tables: list[str], width: int, depth: int, hidden: int, hints: Hints) -> int:
    """Number of heads: from a table, from a hint, or from the known ViT of these sizes."""
    if tables:
        heads = shape_of(weights, tables[0], rank=2)[1]
        if hints.heads not in (None, heads):
            raise ConversionError(f'its bias tables have {heads} heads, not {hints.heads}')
    else:
        heads = hints.heads or (hints.widths or {}).get(width) or _usual_heads(weights, width, depth, hidden)
    if not heads or width % heads:
        raise ConversionError(f'{heads} heads do not divide the width {width}')
    return heads


def _usual_heads(weights: Weights, width: int, depth: int, hidden: int) -> int:
    """Number of heads of the one known ViT of these sizes.

    Raises:
        ConversionError: If no ViT has these sizes, or it may be MoCo v3's.
    """
    if width == _MOCO_V3_WIDTH and _has_positions_of_moco_v3(weights):
        raise ConversionError(
            "the position embedding is that of MoCo v3, whose ViT-S has 12 heads where DeiT's has 6, which "
            'weights do not show: give --arch heads=N'
        )
    for arch in _ARCHES:
        sizes = dict(A2MIMViT.arch_zoo[arch])
        heads = sizes.pop('num_heads')
        if sizes == dict(embed_dims=width, num_layers=depth, feedforward_channels=hidden):
            return heads
    raise ConversionError(
        f'the number of heads of a ViT of width {width}, {depth} layers and {hidden} hidden units cannot be '
        'told from its weights: give --arch heads=N'
    )


def _has_positions_of_moco_v3(weights: Weights) -> bool:
    """Whether the position embedding is the fixed one of MoCo v3 (source: moco-v3, ``vits.py``)."""
    position = weights.get('pos_embed')
    if position is None or position.shape[2] % 4:
        return False
    side = math.isqrt(position.shape[1])
    fixed = build_2d_sincos_position_embedding(side, position.shape[2])
    patches = position[:, -(side**2) :]
    return patches.shape == fixed.shape and torch.allclose(patches.float(), fixed, rtol=0, atol=1e-3)


def _arch(width: int, depth: int, hidden: int, heads: int) -> str | dict[str, int]:
    sizes = dict(embed_dims=width, num_layers=depth, num_heads=heads, feedforward_channels=hidden)
    return next((arch for arch in _ARCHES if A2MIMViT.arch_zoo[arch] == sizes), sizes)
