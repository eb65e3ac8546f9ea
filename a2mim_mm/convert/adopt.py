"""Weights of any known format for the backbone of a pre-training, under the backbone's own names."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor, nn

from a2mim_mm.backbones.vit import TABLE, A2MIMViT
from a2mim_mm.checkpoints.backbone import (
    PretrainedWeights,
    check_same_network,
    find_pretrained,
    parts_of,
)
from a2mim_mm.checkpoints.errors import CheckpointError
from a2mim_mm.checkpoints.read import load_checkpoint_file
from a2mim_mm.errors import first_names
from a2mim_mm.libraries import LibraryMissing

from .detect import Found, detect
from .encoder import ConversionError, Encoder
from .naming import Hints, Weights
from .targets import OPENMMLAB, TIMM

_RGB = 3


def adopt(path: str | Path, cfg: Config, backbone: nn.Module) -> tuple[PretrainedWeights, list[str]]:
    """The weights in a file by the names of a backbone, whoever wrote them.

    If most names of the backbone are in the file, they stay as they are. Otherwise the file is read as
    ``tools/convert_checkpoint.py`` reads it. What an :class:`A2MIMViT` has and other ViTs lack, position
    embedding or bias tables, starts at zero, which changes nothing. A first convolution for RGB images is
    folded or repeated for images of other channels.

    Args:
        path: File of weights.
        cfg: Config of the training.
        backbone: The network that it is for.

    Returns:
        The weights, and notes for the log. The weights may still not fill the backbone.

    Raises:
        ConversionError: If the file has other names and its format is not known.
        CheckpointError: If the file is damaged, or its config says that it belongs to another network.
    """
    checkpoint = load_checkpoint_file(path)
    try:
        pretrained = find_pretrained(checkpoint, path, **parts_of(cfg))
    except CheckpointError:  # for example, the state dict is under a key of the authors
        pretrained = PretrainedWeights(str(path), {}, (), **parts_of(cfg))
    names, notes = set(backbone.state_dict()), []
    if 2 * len(names & pretrained.weights.keys()) < len(names):
        found = _detect(checkpoint, str(path), backbone)
        pretrained = _renamed(pretrained, found, names)
        notes.append(f'{path}: {found.origin.title}')
    check_same_network(pretrained.saved, cfg, str(path))
    weights = dict(pretrained.weights)
    notes += [*_neutral(weights, backbone), *_first_convolution(weights, backbone)]
    return replace(pretrained, weights=weights), notes


def network_in(path: str | Path) -> tuple[dict, tuple | None]:
    """The config of the network in a file of a known format, and the normalisation of its images.

    Args:
        path: File of weights.

    Returns:
        The config, whose last output is a map, and mean and std (RGB in 0..1), or None.

    Raises:
        ConversionError: If the format is not known.
    """
    found = detect(load_checkpoint_file(path), str(path))
    cfg = dict(found.encoder.cfg)
    if found.encoder.family == A2MIMViT.__name__:
        cfg['out_type'] = 'featmap'
    if found.encoder.family == 'ConvNeXt':
        cfg['gap_before_final_norm'] = False
    return cfg, found.mean_std


def _detect(checkpoint: dict, source: str, backbone: nn.Module) -> Found:
    """The encoder in a file. Where weights do not show the number of heads, it is the backbone's."""
    heads = next((module.num_heads for module in backbone.modules() if hasattr(module, 'num_heads')), None)
    try:
        return detect(checkpoint, source)
    except ConversionError:
        if heads is None:
            raise
        return detect(checkpoint, source, hints=Hints(heads=heads))


def _renamed(pretrained: PretrainedWeights, found: Found, names: set[str]) -> PretrainedWeights:
    """The weights of an encoder by those of its possible names that have most in common with the backbone."""
    weights = max(_expressions(found.encoder), key=lambda one: len(names & one.keys()))
    saved = dict(model=dict(backbone=found.encoder.cfg))
    if found.mean_std is not None:
        mean, std = ([255 * value for value in values] for values in found.mean_std)
        saved['data_preprocessor'] = dict(mean=mean, std=std, to_rgb=True)
    return replace(pretrained, weights=weights, outside=found.outside, saved=saved)


def _expressions(encoder: Encoder) -> Iterator[Weights]:
    yield encoder.weights
    for naming in (*OPENMMLAB, *TIMM):
        if naming.family == encoder.family:
            try:
                yield naming.write(encoder)[0]
            except (ConversionError, LibraryMissing):  # this library cannot hold the encoder
                continue


def _neutral(weights: Weights, backbone: nn.Module) -> list[str]:
    """Add what a ViT may lack, as zeros."""
    if not isinstance(backbone, A2MIMViT):
        return []
    added = {
        name: torch.zeros_like(tensor)
        for name, tensor in backbone.state_dict().items()
        if name not in weights and name.endswith((TABLE, 'pos_embed'))
    }
    weights.update(added)
    return [f'{len(added)} new, at zero, which changes nothing ({first_names([*added])})'] if added else []


def _first_convolution(weights: Weights, backbone: nn.Module) -> list[str]:
    """Fit the first convolution, if it is for RGB images, to the channels of the backbone."""
    first = next((name for name, tensor in backbone.state_dict().items() if tensor.ndim == 4), None)
    if first not in weights or weights[first].ndim != 4:
        return []
    channels, there = backbone.state_dict()[first].shape[1], weights[first].shape[1]
    if channels == there or there != _RGB:
        return []
    weights[first] = _for_channels(weights[first], channels)
    way = 'summed' if channels == 1 else 'repeated'
    return [f'{first} is for 3 channels: {way} for {channels}']


def _for_channels(weight_o3hw: Tensor, channels: int) -> Tensor:
    """A convolution of RGB images for other channels (o, c, h, w).

    For one channel it is the sum, so that a grey image gives what it gave in colour. For more, R, G and B
    are repeated in turn and scaled by 3 / c, so that what comes out keeps its size.
    """
    if channels == 1:
        return weight_o3hw.sum(dim=1, keepdim=True)
    turns = [index % _RGB for index in range(channels)]
    return weight_o3hw[:, turns] * (_RGB / channels)
