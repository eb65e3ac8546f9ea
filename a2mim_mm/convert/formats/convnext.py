"""ConvNeXt, V1 and V2: names of mmpretrain, timm and facebookresearch.

Sources of the names: mmpretrain, ``models/backbones/convnext.py``; timm, ``models/convnext.py``;
facebookresearch/ConvNeXt and ConvNeXt-V2, ``models/``; the last are also those of SparK.

An encoder without a last norm has no ``out_indices`` in the pivot: mmpretrain makes a norm for each.
"""

import re

from mmpretrain.models import ConvNeXt
from torch import Tensor, nn

from ..encoder import ConversionError, Encoder, build_backbone, build_without_weights
from ..libraries import timm
from ..naming import (
    Hints,
    Naming,
    Peer,
    TimmNaming,
    Weights,
    check_against,
    count,
    rename,
    require,
    shape_of,
    swapped,
)

LAST = 3  # of four stages, which timm's ConvNeXt always has
_LAYER_SCALE = 1e-6  # any number but 0 makes the parameters, which are then loaded
_GRN = re.compile(r'stages\.\d+\.\d+\.grn\.(gamma|beta)')
_GAMMA = re.compile(r'stages\.\d+\.\d+\.gamma')
_POINTWISE = re.compile(r'stages\.\d+\.\d+\.pointwise_conv[12]\.weight')

TIMM_NAMES = [
    ('downsample_layers.0.*.*', 'stem.*.*'),
    *((f'downsample_layers.{i}.*.*', f'stages.{i}.downsample.*.*') for i in range(1, LAST + 1)),
    ('stages.*.*.depthwise_conv.*', 'stages.*.blocks.*.conv_dw.*'),
    ('stages.*.*.norm.*', 'stages.*.blocks.*.norm.*'),
    ('stages.*.*.pointwise_conv1.*', 'stages.*.blocks.*.mlp.fc1.*'),
    ('stages.*.*.pointwise_conv2.*', 'stages.*.blocks.*.mlp.fc2.*'),
    ('stages.*.*.grn.gamma', 'stages.*.blocks.*.mlp.grn.weight'),
    ('stages.*.*.grn.beta', 'stages.*.blocks.*.mlp.grn.bias'),
    ('stages.*.*.gamma', 'stages.*.blocks.*.gamma'),
    (f'norm{LAST}.*', 'head.norm.*'),
]
NAMES = [
    ('downsample_layers.*.*.*', 'downsample_layers.*.*.*'),
    ('stages.*.*.depthwise_conv.*', 'stages.*.*.dwconv.*'),
    ('stages.*.*.norm.*', 'stages.*.*.norm.*'),
    ('stages.*.*.pointwise_conv1.*', 'stages.*.*.pwconv1.*'),
    ('stages.*.*.pointwise_conv2.*', 'stages.*.*.pwconv2.*'),
    ('stages.*.*.grn.*', 'stages.*.*.grn.*'),
    ('stages.*.*.gamma', 'stages.*.*.gamma'),
    (f'norm{LAST}.*', 'norm.*'),
]


class MMConvNeXtNaming(Naming):
    """mmpretrain's ConvNeXt, also of mmcls and OpenMixup: the pivot's own names."""

    name = 'mmpretrain ConvNeXt'
    family = 'ConvNeXt'
    signature = 'stages.*.*.depthwise_conv.weight'

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        del hints
        return convnext_encoder(weights)

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        return dict(encoder.weights), {}

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`."""
        network = build_backbone(cfg)
        network.load_state_dict(weights)
        if cfg['out_indices']:
            return Peer(network, lambda image: network(image)[-1])
        layers = zip(network.downsample_layers, network.stages, strict=True)
        return Peer(network, nn.Sequential(*(layer for pair in layers for layer in pair)))


class TimmConvNeXtNaming(TimmNaming):
    """timm's ``convnext_*`` and ``convnextv2_*``."""

    name = 'timm ConvNeXt'
    models = ('convnext_', 'convnextv2_')
    family = 'ConvNeXt'
    signature = 'stages.*.blocks.*.conv_dw.weight'

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        del hints
        if any(name.startswith('norm_pre.') for name in weights):
            raise ConversionError(
                'this ConvNeXt has a norm before its pooling (norm_pre), the encoders here after'
            )
        encoder = convnext_encoder(rename(weights, swapped(TIMM_NAMES), self.name))
        _check_last_norm(encoder)
        _check_patch(encoder)
        return encoder

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        _check_last_norm(encoder)
        _check_patch(encoder)
        weights, dropped = without_early_norms(encoder.weights)
        return rename(weights, TIMM_NAMES, self.name), dropped

    def model(self, cfg: dict, weights: Weights) -> tuple[str, dict]:
        """See :meth:`TimmNaming.model`."""
        del weights
        arch = cfg['arch']
        sizes = ConvNeXt.arch_settings[arch] if isinstance(arch, str) else arch
        # create_model drops arguments that are None, so what has no LayerScale begins from a model without.
        return 'convnext_tiny' if cfg['layer_scale_init_value'] else 'convnextv2_tiny', dict(
            in_chans=cfg['in_channels'],
            patch_size=cfg['stem_patch_size'],
            depths=sizes['depths'],
            dims=sizes['channels'],
            conv_mlp=not cfg['linear_pw_conv'],
            use_grn=cfg['use_grn'],
        )

    def as_peer(self, network: nn.Module, cfg: dict) -> nn.Module:
        """See :meth:`TimmNaming.as_peer`."""
        return Peer(network, network if cfg['out_indices'] else network.forward_features)


class ConvNeXtNaming(Naming):
    """facebookresearch's ConvNeXt and ConvNeXt V2; SparK's encoder."""

    name = 'facebookresearch ConvNeXt'
    family = 'ConvNeXt'
    signature = 'stages.*.*.dwconv.weight'

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        del hints
        weights = rename(weights, swapped(NAMES), self.name)
        encoder = convnext_encoder(
            {
                name: tensor.squeeze((0, 1, 2)) if _GRN.fullmatch(name) and tensor.ndim == 4 else tensor
                for name, tensor in weights.items()
            }
        )
        _check_patch(encoder)
        return encoder

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        _check_patch(encoder)
        weights, dropped = without_early_norms(encoder.weights)
        return rename(
            {name: _of_facebook(name, tensor) for name, tensor in weights.items()}, NAMES, self.name
        ), dropped

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`; timm's network, by timm's own translation of these names."""
        naming = TimmConvNeXtNaming()
        name, arguments = naming.model(cfg, weights)
        network = timm().create_model(name, num_classes=0, **arguments)
        if not cfg['out_indices']:
            network.head.norm = nn.Identity()
        network.load_state_dict(timm().models.convnext.checkpoint_filter_fn(weights, network))
        return naming.as_peer(network, cfg)


def convnext_encoder(weights: Weights) -> Encoder:
    """The pivot of a ConvNeXt whose weights have the pivot's names.

    Raises:
        ConversionError: If names are missing or unknown, or a tensor is misshapen.
    """
    stages = range(LAST + 1)
    _, channels, patch, _ = shape_of(weights, 'downsample_layers.0.0.weight', rank=4)
    widths = [shape_of(weights, f'stages.{i}.0.depthwise_conv.weight', rank=4)[0] for i in stages]
    depths = [count(weights, f'stages.{i}.*.*.*') for i in stages]
    require(weights, ['stages.0.0.pointwise_conv1.weight'])
    cfg = dict(
        type='mmpretrain.ConvNeXt',
        arch=_arch(depths, widths),
        in_channels=channels,
        stem_patch_size=patch,
        linear_pw_conv=weights['stages.0.0.pointwise_conv1.weight'].ndim == 2,
        use_grn=any(_GRN.fullmatch(name) for name in weights),
        layer_scale_init_value=_LAYER_SCALE if any(_GAMMA.fullmatch(name) for name in weights) else 0.0,
        out_indices=outputs_of_norms(weights),
        gap_before_final_norm=True,
    )
    check_against(build_without_weights(cfg), weights)
    return Encoder(cfg, weights)


def outputs_of_norms(weights: Weights) -> list[int]:
    """Stages of whose outputs OpenMMLab's networks have a norm: none, or the last and any before."""
    numbers = {int(name[4]) for name in weights if re.fullmatch(rf'norm[0-{LAST}]\.(weight|bias)', name)}
    return sorted({*numbers, LAST}) if numbers else []


def without_early_norms(weights: Weights) -> tuple[Weights, dict[str, str]]:
    """Weights without norms of outputs before the last, which only OpenMMLab has; their names and why."""
    early = [name for name in weights if re.match(rf'norm[0-{LAST - 1}]\.', name)]
    kept = {name: tensor for name, tensor in weights.items() if name not in early}
    return kept, dict.fromkeys(early, 'normalises what an earlier stage gives to a decoder')


def _check_last_norm(encoder: Encoder) -> None:
    if not encoder.cfg['out_indices']:
        raise ConversionError(f"there is no last norm (norm{LAST}), which timm's ConvNeXt always has")


def _check_patch(encoder: Encoder) -> None:
    """Refuse stems where timm chooses other strides and dilations later, by the same names."""
    if encoder.cfg['stem_patch_size'] != 4:
        raise ConversionError(
            f'a stem of {encoder.cfg["stem_patch_size"]} pixels is in mmpretrain alone: elsewhere it has 4'
        )


def _of_facebook(name: str, tensor: Tensor) -> Tensor:
    if _GRN.fullmatch(name):
        return tensor.reshape(1, 1, 1, -1)
    return tensor.flatten(1) if _POINTWISE.fullmatch(name) else tensor


def _arch(depths: list[int], channels: list[int]) -> str | dict[str, list[int]]:
    sizes = dict(depths=depths, channels=channels)
    return next((name for name, known in ConvNeXt.arch_settings.items() if known == sizes), sizes)
