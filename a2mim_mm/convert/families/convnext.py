"""ConvNeXt, V1 and V2. Source of the pivot's names: mmpretrain, ``models/backbones/convnext.py``.

An encoder without a last norm has no ``out_indices`` in the pivot: mmpretrain makes a norm for each.
"""

import re

from mmpretrain.models import ConvNeXt

from ..encoder import ConversionError, Encoder, build_without_weights
from ..naming import Hints, Weights, check_against, count, require, shape_of

FAMILY = 'ConvNeXt'
LAST = 3  # of four stages, which timm's ConvNeXt always has
_LAYER_SCALE = 1e-6  # any number but 0 makes the parameters, which are then loaded
GRN = re.compile(r'stages\.\d+\.\d+\.grn\.(gamma|beta)')
_GAMMA = re.compile(r'stages\.\d+\.\d+\.gamma')


def convnext_encoder(weights: Weights, _hints: Hints, folded: dict[str, str]) -> Encoder:
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
        use_grn=any(GRN.fullmatch(name) for name in weights),
        layer_scale_init_value=_LAYER_SCALE if any(_GAMMA.fullmatch(name) for name in weights) else 0.0,
        out_indices=outputs_of_norms(weights),
        gap_before_final_norm=True,
    )
    check_against(build_without_weights(cfg), weights)
    return Encoder(cfg, weights, folded)


def outputs_of_norms(weights: Weights) -> list[int]:
    """Stages whose outputs have a norm in OpenMMLab's networks: none, or the last and some before."""
    numbers = {int(name[4]) for name in weights if re.fullmatch(rf'norm[0-{LAST}]\.(weight|bias)', name)}
    return sorted({*numbers, LAST}) if numbers else []


def without_early_norms(weights: Weights) -> tuple[Weights, dict[str, str]]:
    """Weights without the norms of earlier outputs, which only OpenMMLab has, and their names and why."""
    early = [name for name in weights if re.match(rf'norm[0-{LAST - 1}]\.', name)]
    kept = {name: tensor for name, tensor in weights.items() if name not in early}
    return kept, dict.fromkeys(early, 'normalises the output of an earlier stage for a decoder')


def checked_norm_and_patch(encoder: Encoder) -> Encoder:
    """Refuse what timm's ConvNeXt does not have."""
    if not encoder.cfg['out_indices']:
        raise ConversionError(f"there is no last norm (norm{LAST}), which timm's ConvNeXt always has")
    return checked_patch(encoder)


def checked_patch(encoder: Encoder) -> Encoder:
    """Refuse stems of other sizes, for which timm chooses other strides and dilations later."""
    if encoder.cfg['stem_patch_size'] != 4:
        raise ConversionError(
            f'a stem of {encoder.cfg["stem_patch_size"]} pixels is in mmpretrain alone: elsewhere it has 4'
        )
    return encoder


def _arch(depths: list[int], channels: list[int]) -> str | dict[str, list[int]]:
    sizes = dict(depths=depths, channels=channels)
    return next((name for name, known in ConvNeXt.arch_settings.items() if known == sizes), sizes)
