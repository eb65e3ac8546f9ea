"""Swin Transformer: names of mmpretrain, of microsoft (Swin, SimMIM), and of timm."""

import math

from torch import Tensor, nn

from a2mim_mm.models.relative_position import relative_position_index
from a2mim_mm.models.vit import TABLE

from ..encoder import ConversionError, Encoder, build_backbone
from ..libraries import timm
from ..naming import Hints, Naming, Peer, TimmNaming, Weights, check_against, count, rename, require, swapped

_INDEX, _MASK = 'relative_position_index', 'attn_mask'
_SIZES = {6: 192, 7: 224, 12: 384}  # image sizes of released weights, by window
_BLOCK = [
    ('norm1.*', 'norm1.*'),
    ('attn.w_msa.qkv.*', 'attn.qkv.*'),
    ('attn.w_msa.proj.*', 'attn.proj.*'),
    (f'attn.w_msa.{TABLE}', f'attn.{TABLE}'),
    ('norm2.*', 'norm2.*'),
    ('ffn.layers.0.0.*', 'mlp.fc1.*'),
    ('ffn.layers.1.*', 'mlp.fc2.*'),
]
_STEM_AND_BLOCKS = [
    ('patch_embed.projection.*', 'patch_embed.proj.*'),
    ('patch_embed.norm.*', 'patch_embed.norm.*'),
    *((f'stages.*.blocks.*.{ours}', f'layers.*.blocks.*.{theirs}') for ours, theirs in _BLOCK),
    ('norm3.*', 'norm.*'),
]
NAMES = [*_STEM_AND_BLOCKS, ('stages.*.downsample.*.*', 'layers.*.downsample.*.*')]
# timm merges patches at the beginning of the next stage.
TIMM_NAMES = [
    *_STEM_AND_BLOCKS,
    *((f'stages.{i}.downsample.*.*', f'layers.{i + 1}.downsample.*.*') for i in range(3)),
]


def swin_encoder(weights: Weights, hints: Hints, folded: dict[str, str]) -> Encoder:
    """The pivot of a Swin Transformer whose weights have the pivot's names, but for the computed order.

    Raises:
        ConversionError: If names are missing or unknown, or the image size is open.
    """
    first = 'stages.0.blocks.0.attn.w_msa'
    require(weights, ('patch_embed.projection.weight', f'{first}.{TABLE}', 'norm3.weight'))
    stages = range(count(weights, 'stages.*.blocks.0.norm1.weight'))
    window = (math.isqrt(len(weights[f'{first}.{TABLE}'])) + 1) // 2
    if hints.img_size is None and window not in _SIZES:
        raise ConversionError(f'the image size of a Swin of window {window} is not known')
    sizes = dict(
        embed_dims=len(weights['patch_embed.projection.weight']),
        depths=[count(weights, f'stages.{i}.blocks.*.norm1.weight') for i in stages],
        num_heads=[weights[f'stages.{i}.blocks.0.attn.w_msa.{TABLE}'].shape[1] for i in stages],
    )
    kind = type(build_backbone(dict(type='mmpretrain.SwinTransformer')))
    cfg = dict(
        type='mmpretrain.SwinTransformer',
        arch=next(
            (arch for arch in ('tiny', 'small', 'base', 'large') if kind.arch_zoo[arch] == sizes), sizes
        ),
        img_size=hints.img_size[0] if hints.img_size else _SIZES[window],
        patch_size=weights['patch_embed.projection.weight'].shape[2],
        in_channels=weights['patch_embed.projection.weight'].shape[1],
        window_size=window,
    )
    index = relative_position_index((window, window), with_cls=False).long()
    tables = [name for name in weights if name.endswith(TABLE)]
    weights = weights | {f'{name.removesuffix(TABLE)}{_INDEX}': index.clone() for name in tables}
    check_against(build_backbone(cfg), weights)
    return Encoder(cfg, weights, folded)


def merge_as_openmmlab(weights: Weights) -> Weights:
    """Patch merging for mmpretrain: a channel of the four neighbours after the other, these row by row.

    microsoft concatenates the four neighbours, upper left, lower left, upper right, lower right.
    """
    return _permute(
        weights, lambda tensor: tensor.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :].transpose(-1, -2)
    )


def merge_as_microsoft(weights: Weights) -> Weights:
    """The inverse of :func:`merge_as_openmmlab`."""
    return _permute(
        weights, lambda tensor: tensor.unflatten(-1, (-1, 4)).transpose(-1, -2)[..., [0, 2, 1, 3], :]
    )


class MMSwinNaming(Naming):
    """mmpretrain's SwinTransformer, the pivot's own; files of mmcls 0.x hold attention masks as well."""

    name = 'mmpretrain Swin'
    family = 'SwinTransformer'
    signature = f'stages.*.blocks.*.attn.w_msa.{TABLE}'

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        weights, folded = _drop_computed(weights)
        return swin_encoder(weights, hints, folded)

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        return dict(encoder.weights), {}

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`."""
        network = build_backbone(cfg)
        indices = {name: buffer for name, buffer in network.state_dict().items() if name.endswith(_INDEX)}
        kept = {name: tensor for name, tensor in weights.items() if not name.endswith(_MASK)}
        network.load_state_dict(indices | kept)
        return Peer(network, lambda image: network(image)[-1].mean(dim=(2, 3)))


class SwinNaming(Naming):
    """microsoft's Swin and SimMIM, compared through timm, which reads their weights by itself."""

    name = 'microsoft Swin'
    family = 'SwinTransformer'
    signature = f'layers.*.blocks.*.attn.{TABLE}'
    unlike = 'layers.3.downsample.reduction.weight'

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        weights, folded = _drop_computed(weights)
        weights = rename(weights, swapped(NAMES), self.name)
        return swin_encoder(merge_as_openmmlab(weights), hints, folded)

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        weights, _ = _drop_computed(encoder.weights)
        return rename(merge_as_microsoft(weights), NAMES, self.name), {}

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`."""
        name, arguments = timm_model(cfg)
        network = timm().create_model(name, num_classes=0, **arguments)
        network.load_state_dict(timm().models.swin_transformer.checkpoint_filter_fn(weights, network))
        return _timm_peer(network)


class TimmSwinNaming(TimmNaming):
    """timm's ``swin_*``."""

    name = 'timm Swin'
    models = ('swin_',)
    family = 'SwinTransformer'
    signature = f'layers.*.blocks.*.attn.{TABLE}'
    unlike = 'layers.0.downsample.reduction.weight'

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        weights = rename(weights, swapped(TIMM_NAMES), self.name)
        return swin_encoder(merge_as_openmmlab(weights), hints, {})

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        weights, _ = _drop_computed(encoder.weights)
        return rename(merge_as_microsoft(weights), TIMM_NAMES, self.name), {}

    def model(self, cfg: dict, weights: Weights) -> tuple[str, dict]:
        """See :meth:`TimmNaming.model`."""
        del weights
        return timm_model(cfg)

    def as_peer(self, network: nn.Module, cfg: dict) -> nn.Module:
        """See :meth:`TimmNaming.as_peer`."""
        del cfg
        return _timm_peer(network)


def timm_model(cfg: dict) -> tuple[str, dict]:
    """Name and arguments of timm's model from a pivot's config."""
    kind = type(build_backbone(dict(type='mmpretrain.SwinTransformer')))
    sizes = kind.arch_zoo[cfg['arch']] if isinstance(cfg['arch'], str) else cfg['arch']
    return 'swin_tiny_patch4_window7_224', dict(
        img_size=cfg['img_size'],
        patch_size=cfg['patch_size'],
        in_chans=cfg['in_channels'],
        window_size=cfg['window_size'],
        embed_dim=sizes['embed_dims'],
        depths=sizes['depths'],
        num_heads=sizes['num_heads'],
    )


def _timm_peer(network: nn.Module) -> nn.Module:
    return Peer(network, lambda image: network.forward_features(image).mean(dim=(1, 2)))


def _permute(weights: Weights, order: object) -> Weights:
    """Weights with the inputs of each patch merging, norm and reduction, in another order."""

    def permuted(name: str, tensor: Tensor) -> Tensor:
        return order(tensor).flatten(-2) if '.downsample.' in name else tensor

    return {name: permuted(name, tensor) for name, tensor in weights.items()}


def _drop_computed(weights: Weights) -> tuple[Weights, dict[str, str]]:
    """Without the order of relative positions, once it is seen to be ours, and attention masks."""
    kept, folded = {}, {}
    for name, tensor in weights.items():
        if name.endswith(_INDEX):
            side = math.isqrt(len(tensor))
            expected = relative_position_index((side, side), with_cls=False)
            if tensor.shape != expected.shape or not (tensor == expected).all():
                raise ConversionError(f'{name} orders relative positions in another way than Swin')
            folded[name] = 'the order of relative positions, computed'
        elif name.endswith(_MASK):
            folded[name] = 'mask of shifted windows, computed'
        else:
            kept[name] = tensor
    return kept, folded
