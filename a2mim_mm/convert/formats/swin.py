"""Swin: names of mmpretrain, microsoft (SimMIM too) and timm.

Sources of the names: mmpretrain, ``models/backbones/swin_transformer.py``; microsoft/Swin-Transformer and
microsoft/SimMIM, ``models/swin_transformer.py``; timm, ``models/swin_transformer.py``, of timm 0.9 and later.
"""

import math
import re
from collections.abc import Callable
from dataclasses import replace

import torch
from mmpretrain.models import SwinTransformer
from mmpretrain.models.utils import ShiftWindowMSA
from torch import Tensor, nn

from ..encoder import ConversionError, Encoder, build_backbone, build_without_weights
from ..libraries import timm
from ..naming import Hints, Naming, Peer, TimmNaming, Weights, check_against, count, rename, shape_of, swapped
from .convnext import LAST, outputs_of_norms, without_early_norms

_TABLE, _INDEX, _MASK = 'relative_position_bias_table', 'relative_position_index', 'attn_mask'
_REASONS = {
    _INDEX: 'the order of relative positions, computed',
    _MASK: 'which tokens of a shifted window see each other, computed',
}
_FIRST_MASK = f'stages.0.blocks.1.attn.{_MASK}'
_MERGING = re.compile(r'stages\.\d+\.downsample\.(norm\.weight|norm\.bias|reduction\.weight)')
_OTHER_SWINS = {  # parts of names of which the plain Swin has none
    'absolute_pos_embed': 'an absolute position embedding (ape)',
    'logit_scale': 'cosine attention (Swin V2)',
    'cpb_mlp': 'cosine attention (Swin V2)',
}

_SHARED_NAMES = [
    ('patch_embed.projection.*', 'patch_embed.proj.*'),
    ('patch_embed.norm.*', 'patch_embed.norm.*'),
    ('stages.*.blocks.*.norm1.*', 'layers.*.blocks.*.norm1.*'),
    (f'stages.*.blocks.*.attn.w_msa.{_TABLE}', f'layers.*.blocks.*.attn.{_TABLE}'),
    (f'stages.*.blocks.*.attn.w_msa.{_INDEX}', f'layers.*.blocks.*.attn.{_INDEX}'),
    ('stages.*.blocks.*.attn.w_msa.qkv.*', 'layers.*.blocks.*.attn.qkv.*'),
    ('stages.*.blocks.*.attn.w_msa.proj.*', 'layers.*.blocks.*.attn.proj.*'),
    (f'stages.*.blocks.*.attn.{_MASK}', f'layers.*.blocks.*.{_MASK}'),
    ('stages.*.blocks.*.norm2.*', 'layers.*.blocks.*.norm2.*'),
    ('stages.*.blocks.*.ffn.layers.0.0.*', 'layers.*.blocks.*.mlp.fc1.*'),
    ('stages.*.blocks.*.ffn.layers.1.*', 'layers.*.blocks.*.mlp.fc2.*'),
    (f'norm{LAST}.*', 'norm.*'),
]
NAMES = [*_SHARED_NAMES, ('stages.*.downsample.*.*', 'layers.*.downsample.*.*')]
TIMM_NAMES = [
    *_SHARED_NAMES,
    *((f'stages.{i}.downsample.*.*', f'layers.{i + 1}.downsample.*.*') for i in range(LAST)),
]


class MMSwinNaming(Naming):
    """mmpretrain's SwinTransformer, also of mmdet and mmseg: the pivot's own names."""

    name = 'mmpretrain Swin'
    family = 'SwinTransformer'
    signature = 'stages.*.blocks.*.attn.w_msa.qkv.weight'

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        _check_kind(weights)
        return swin_encoder(weights, hints, _reasons(weights, (_MASK,)))

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        return dict(encoder.weights), {}

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`."""
        network = build_backbone(cfg)
        # What a file may leave out, or has of mmcls 0.x, is computed.
        network.load_state_dict(_indices(network) | _without(weights, (_MASK,)))
        if cfg['norm_cfg'] is None:
            return Peer(network, lambda image: network(image)[-1])
        return Peer(network, lambda image: network(image)[-1].mean((-2, -1)))


class _OriginalSwin(Naming):
    """What microsoft's and timm's Swin share: the order of neighbours in patch merging, and a last norm.

    Attributes:
        names: The pivot's names, and these.
    """

    family = 'SwinTransformer'
    names: list[tuple[str, str]]

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        _check_kind(weights)
        folded = _reasons(weights, (_INDEX, _MASK))
        encoder = swin_encoder(rename(weights, swapped(self.names), self.name), hints, folded)
        _check_expressible(encoder.cfg)
        return replace(encoder, weights=_merging_reordered(encoder.weights, _to_pivot))

    def express(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """Weights by the pivot's names, in the order of these libraries, and what was left out, and why."""
        _check_expressible(encoder.cfg)
        weights, dropped = without_early_norms(encoder.weights)
        return _merging_reordered(weights, _from_pivot), dropped


class SwinNaming(_OriginalSwin):
    """microsoft's Swin, of SimMIM too, with its computed buffers; timm before 0.9 has the same names."""

    name = 'microsoft Swin'
    signature = 'layers.0.downsample.reduction.weight'
    names = NAMES

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        weights, dropped = self.express(encoder)
        dtype = weights['patch_embed.norm.weight'].dtype
        masks = {name: mask.to(dtype) for name, mask in _masks(encoder.cfg).items()}
        return rename(weights | masks, self.names, self.name), dropped

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`; timm's network, by timm's own translation of these names."""
        naming = TimmSwinNaming()
        name, arguments = naming.model(cfg, weights)
        network = timm().create_model(name, num_classes=0, **arguments)
        network.load_state_dict(timm().models.swin_transformer.checkpoint_filter_fn(weights, network))
        return naming.as_peer(network, cfg)


class TimmSwinNaming(TimmNaming, _OriginalSwin):
    """timm's ``swin_*``, which merges patches at the beginning of a stage."""

    name = 'timm Swin'
    models = ('swin_',)
    signature = f'layers.{LAST}.downsample.reduction.weight'
    names = TIMM_NAMES

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        weights, dropped = self.express(encoder)
        computed = _reasons(weights, (_INDEX,))
        return rename(_without(weights, (_INDEX,)), self.names, self.name), dropped | computed

    def model(self, cfg: dict, weights: Weights) -> tuple[str, dict]:
        """See :meth:`TimmNaming.model`."""
        del weights
        sizes = _sizes(cfg)
        return 'swin_tiny_patch4_window7_224', dict(
            img_size=cfg['img_size'],
            patch_size=cfg['patch_size'],
            in_chans=cfg['in_channels'],
            embed_dim=sizes['embed_dims'],
            depths=sizes['depths'],
            num_heads=sizes['num_heads'],
            window_size=cfg['window_size'],
        )

    def as_peer(self, network: nn.Module, cfg: dict) -> nn.Module:
        """See :meth:`TimmNaming.as_peer`."""
        del cfg
        return Peer(network, network)

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`; timm keeps nothing that is computed."""
        return super().peer(cfg, _without(weights, (_INDEX, _MASK)))


def swin_encoder(weights: Weights, hints: Hints, folded: dict[str, str]) -> Encoder:
    """The pivot of a Swin whose weights have the pivot's names.

    Args:
        weights: Tensors; what is computed may be among them.
        hints: For the image size, which the masks of shifted windows tell where they are there. Without
            either it is the one whose last stage is one window: 192 for windows of 6, 224 of 7, 384 of 12.
        folded: What of the source is computed, and why it is not kept.

    Raises:
        ConversionError: If names are missing or unknown, a tensor is misshapen, or what is computed differs.
    """
    cfg = _config(weights, hints)
    network = build_without_weights(cfg)
    indices = _indices(network)
    _check_computed(weights, indices | _masks(cfg))
    weights = _without(weights, (_INDEX, _MASK)) | indices
    check_against(network, weights)
    return Encoder(cfg, weights, folded)


def _check_kind(weights: Weights) -> None:
    for part, kind in _OTHER_SWINS.items():
        if any(part in name for name in weights):
            raise ConversionError(f'this Swin has {kind}, which no encoder here has')


def _config(weights: Weights, hints: Hints) -> dict:
    stages = range(LAST + 1)
    width, channels, patch, _ = shape_of(weights, 'patch_embed.projection.weight', rank=4)
    first_tables = [f'stages.{i}.blocks.0.attn.w_msa.{_TABLE}' for i in stages]
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
        raise ConversionError(f'stages have windows of different sizes (rows of {_TABLE}: {sorted(rows)})')
    (number,) = rows
    side = math.isqrt(number)
    if side * side != number or side % 2 == 0:
        raise ConversionError(f'no square window has a {_TABLE} of {number} rows')
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


def _sizes(cfg: dict) -> dict:
    return SwinTransformer.arch_zoo[cfg['arch']] if isinstance(cfg['arch'], str) else cfg['arch']


def _sides(cfg: dict) -> tuple[int, int]:
    """Height and width in pixels."""
    size = cfg['img_size']
    return (size, size) if isinstance(size, int) else size


def _check_expressible(cfg: dict) -> None:
    """Refuse what microsoft's and timm's networks have not, or do in another way than mmpretrain's."""
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


def _indices(network: nn.Module) -> Weights:
    return {name: buffer for name, buffer in network.named_buffers() if name.endswith(_INDEX)}


def _masks(cfg: dict) -> Weights:
    """Masks of shifted windows by the names of mmcls 0.x; a stage of one window is not shifted."""
    masks, window = {}, cfg['window_size']
    for i, depth in enumerate(_sizes(cfg)['depths']):
        grid_hw = [math.ceil(side / cfg['patch_size'] / 2**i) for side in _sides(cfg)]
        if window == 1 or min(grid_hw) <= window:
            continue
        padded_hw = [math.ceil(side / window) * window for side in grid_hw]
        mask = ShiftWindowMSA.get_attn_mask(padded_hw, window, window // 2)
        masks |= {f'stages.{i}.blocks.{j}.attn.{_MASK}': mask.clone() for j in range(1, depth, 2)}
    return masks


def _check_computed(weights: Weights, expected: Weights) -> None:
    for name, tensor in weights.items():
        if not name.endswith((_INDEX, _MASK)):
            continue
        if name not in expected or not _same(tensor, expected[name]):
            raise ConversionError(f'{name} is not the one that is computed for this window and image size')


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and bool(torch.all(first == second))


def _without(weights: Weights, suffixes: tuple[str, ...]) -> Weights:
    return {name: tensor for name, tensor in weights.items() if not name.endswith(suffixes)}


def _reasons(weights: Weights, suffixes: tuple[str, ...]) -> dict[str, str]:
    return {name: _REASONS[suffix] for name in weights for suffix in suffixes if name.endswith(suffix)}


def _merging_reordered(weights: Weights, order: Callable[[Tensor], Tensor]) -> Weights:
    return {name: order(tensor) if _MERGING.fullmatch(name) else tensor for name, tensor in weights.items()}


def _to_pivot(tensor: Tensor) -> Tensor:
    """From (column, row, channel), as microsoft concatenates 2x2 tokens, to ``nn.Unfold``'s reverse."""
    return tensor.unflatten(-1, (2, 2, -1)).transpose(-3, -1).flatten(-3)


def _from_pivot(tensor: Tensor) -> Tensor:
    """The inverse of :func:`_to_pivot`."""
    return tensor.unflatten(-1, (-1, 2, 2)).transpose(-3, -1).flatten(-3)
