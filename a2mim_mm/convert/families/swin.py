"""Swin. Source of the pivot's names: mmpretrain, ``models/backbones/swin_transformer.py``."""

import math
import re
from collections.abc import Callable

import torch
from mmpretrain.models import SwinTransformer
from mmpretrain.models.utils import ShiftWindowMSA
from torch import Tensor, nn

from ..encoder import ConversionError, Encoder, build_without_weights
from ..naming import Hints, Weights, check_against, count, shape_of
from .convnext import LAST, outputs_of_norms

FAMILY = 'SwinTransformer'
TABLE, INDEX, MASK = 'relative_position_bias_table', 'relative_position_index', 'attn_mask'
_REASONS = {
    INDEX: 'the order of relative positions, computed',
    MASK: 'which tokens of a shifted window see each other, computed',
}
_FIRST_MASK = f'stages.0.blocks.1.attn.{MASK}'
_MERGING = re.compile(r'stages\.\d+\.downsample\.(norm\.weight|norm\.bias|reduction\.weight)')
_OTHER_SWINS = {  # parts of names that the plain Swin does not have
    'absolute_pos_embed': 'an absolute position embedding (ape)',
    'logit_scale': 'cosine attention (Swin V2)',
    'cpb_mlp': 'cosine attention (Swin V2)',
}


def swin_encoder(weights: Weights, hints: Hints, folded: dict[str, str]) -> Encoder:
    """The pivot of a Swin whose weights have the pivot's names.

    Args:
        weights: Tensors, with or without computed ones.
        hints: May hold the image size, which the masks of shifted windows show as well. Without both it is
            the size whose last stage is one window: 192 for windows of 6, 224 of 7, 384 of 12.
        folded: Names of the source that are computed, and why they are not kept.

    Raises:
        ConversionError: If names are missing or unknown, a tensor is misshapen, or a computed one differs.
    """
    cfg = _config(weights, hints)
    network = build_without_weights(cfg)
    indices = indices_of(network)
    _check_computed(weights, indices | _masks(cfg))
    weights = without(weights, (INDEX, MASK)) | indices
    check_against(network, weights)
    return Encoder(cfg, weights, folded)


def check_kind(weights: Weights) -> None:
    """Refuse Swins that are not the plain one."""
    for part, kind in _OTHER_SWINS.items():
        if any(part in name for name in weights):
            raise ConversionError(f'this Swin has {kind}, which the encoders here do not have')


def _config(weights: Weights, hints: Hints) -> dict:
    stages = range(LAST + 1)
    width, channels, patch, _ = shape_of(weights, 'patch_embed.projection.weight', rank=4)
    first_tables = [f'stages.{i}.blocks.0.attn.w_msa.{TABLE}' for i in stages]
    heads = [shape_of(weights, name, rank=2)[1] for name in first_tables]
    depths = [count(weights, f'stages.{i}.blocks.*.*.*') for i in stages]
    window = _window({weights[name].shape[0] for name in first_tables})
    outputs = outputs_of_norms(weights)
    return dict(
        type='mmpretrain.SwinTransformer',
        arch=_arch(dict(embed_dims=width, depths=depths, num_heads=heads)),
        img_size=_img_size(weights, hints, patch, window),
        patch_size=patch,
        in_channels=channels,
        window_size=window,
        out_indices=outputs or [LAST],
        norm_cfg=dict(type='LN') if outputs else None,
    )


def _window(rows: set[int]) -> int:
    if len(rows) > 1:
        raise ConversionError(f'stages have windows of different sizes (rows of {TABLE}: {sorted(rows)})')
    (number,) = rows
    side = math.isqrt(number)
    if side * side != number or side % 2 == 0:
        raise ConversionError(f'no square window has a {TABLE} of {number} rows')
    return (side + 1) // 2


def _img_size(weights: Weights, hints: Hints, patch: int, window: int) -> int | tuple[int, int]:
    if hints.img_size:
        height, width = hints.img_size
        return height if height == width else (height, width)
    mask = weights.get(_FIRST_MASK)
    windows = 2**LAST if mask is None or mask.ndim != 3 else math.isqrt(mask.shape[0])
    return windows * window * patch


def _arch(sizes: dict) -> str | dict:
    names = [name for name, known in SwinTransformer.arch_zoo.items() if known == sizes]
    return max(names, key=len) if names else sizes


def sizes_of(cfg: dict) -> dict:
    """``embed_dims``, ``depths`` and ``num_heads`` of a pivot's config."""
    return SwinTransformer.arch_zoo[cfg['arch']] if isinstance(cfg['arch'], str) else cfg['arch']


def _sides(cfg: dict) -> tuple[int, int]:
    """Height and width in pixels."""
    size = cfg['img_size']
    return (size, size) if isinstance(size, int) else size


def check_expressible(cfg: dict) -> None:
    """Refuse what microsoft's and timm's networks lack, or do differently from mmpretrain's."""
    if cfg['norm_cfg'] is None:
        raise ConversionError(
            f"there is no last norm (norm{LAST}), which microsoft's and timm's Swin always have"
        )
    height, width = _sides(cfg)
    multiple = cfg['patch_size'] * cfg['window_size'] * 2**LAST
    if height != width or height % multiple:
        raise ConversionError(
            f'images of {height} x {width} pixels: with windows of {cfg["window_size"]} they must be square '
            f'and a multiple of {multiple}, as libraries differ in how they pad and shift windows'
        )


def indices_of(network: nn.Module) -> Weights:
    """The computed orders of relative positions."""
    return {name: buffer for name, buffer in network.named_buffers() if name.endswith(INDEX)}


def _masks(cfg: dict) -> Weights:
    """Masks of shifted windows under the names of mmcls 0.x. A stage of one window is not shifted."""
    masks, window = {}, cfg['window_size']
    for i, depth in enumerate(sizes_of(cfg)['depths']):
        grid_hw = [math.ceil(side / cfg['patch_size'] / 2**i) for side in _sides(cfg)]
        if window == 1 or min(grid_hw) <= window:
            continue
        padded_hw = [math.ceil(side / window) * window for side in grid_hw]
        mask = ShiftWindowMSA.get_attn_mask(padded_hw, window, window // 2)
        masks |= {f'stages.{i}.blocks.{j}.attn.{MASK}': mask.clone() for j in range(1, depth, 2)}
    return masks


def _check_computed(weights: Weights, expected: Weights) -> None:
    for name, tensor in weights.items():
        if not name.endswith((INDEX, MASK)):
            continue
        if name not in expected or not _same(tensor, expected[name]):
            raise ConversionError(f'{name} differs from the one computed for this window and image size')


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and bool(torch.all(first == second))


def without(weights: Weights, suffixes: tuple[str, ...]) -> Weights:
    """Weights whose names do not have these endings."""
    return {name: tensor for name, tensor in weights.items() if not name.endswith(suffixes)}


def reasons_for(weights: Weights, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Names with these endings, and why they are left out."""
    return {name: _REASONS[suffix] for name in weights for suffix in suffixes if name.endswith(suffix)}


def merging_reordered(weights: Weights, order: Callable[[Tensor], Tensor]) -> Weights:
    """Weights whose patch merging takes its 2x2 tokens in another order."""
    return {name: order(tensor) if _MERGING.fullmatch(name) else tensor for name, tensor in weights.items()}


def to_pivot(tensor: Tensor) -> Tensor:
    """From (column, row, channel), as microsoft concatenates 2x2 tokens, to ``nn.Unfold``'s reverse."""
    return tensor.unflatten(-1, (2, 2, -1)).transpose(-3, -1).flatten(-3)


def from_pivot(tensor: Tensor) -> Tensor:
    """The inverse of :func:`to_pivot`."""
    return tensor.unflatten(-1, (-1, 2, 2)).transpose(-3, -1).flatten(-3)
