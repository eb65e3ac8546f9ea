"""The state dicts in a file, with the names that their origins know."""

import re

import numpy as np
import torch
from torch import Tensor

from a2mim_mm.checkpoints.errors import CheckpointError
from a2mim_mm.checkpoints.load import plain_names
from a2mim_mm.errors import first_names

from .origin import FILE

_LIGHTNING = 'model.'
# lightly's ResNets are torch.nn.Sequential(*resnet.children()). Relu and maxpool, 2 and 3, have no weights.
_NUMBERED = {'0': 'conv1', '1': 'bn1', '4': 'layer1', '5': 'layer2', '6': 'layer3', '7': 'layer4'}
EMA = 'ema'  # the entry of the copies that mmcv's EMAHook keeps


def state_dicts(checkpoint: dict, source: str) -> dict[str, dict[str, Tensor]]:
    """The state dicts in a file by their keys, ``''`` for weights at the top level, without ``module.``.

    Raises:
        CheckpointError: If the file holds none.
    """
    nested = {key: value for key, value in checkpoint.items() if isinstance(key, str)}
    entries = {
        key: _tensors(value, source)
        for key, value in {FILE: checkpoint, **nested}.items()
        if isinstance(value, dict)
    }
    entries = {key: _without_model(weights) for key, weights in entries.items() if weights}
    if not entries:
        raise CheckpointError(
            f'{source} does not hold weights: its keys are {first_names([*map(str, checkpoint)])}'
        )
    for weights in [*entries.values()]:
        averaged = _averaged(weights)
        if averaged:
            entries[EMA] = averaged
    return entries


def _without_model(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights without Lightning's ``model.``, and with names in place of lightly's numbers."""
    inside = [name for name in weights if name.startswith(_LIGHTNING)]
    if 2 * len(inside) > len(weights):
        weights = {name.removeprefix(_LIGHTNING): tensor for name, tensor in weights.items()}
    for prefix in ('', 'backbone.', 'encoder.'):
        if {f'{prefix}0.weight', f'{prefix}1.running_mean', f'{prefix}4.0.conv1.weight'} <= weights.keys():
            pattern = re.compile(rf'{re.escape(prefix)}([014567])\.')
            return {
                pattern.sub(lambda match: f'backbone.{_NUMBERED[match[1]]}.', name, count=1)
                if pattern.match(name)
                else name: tensor
                for name, tensor in weights.items()
            }
    return weights


def _tensors(content: dict, source: str) -> dict[str, Tensor]:
    weights = {}
    for name, value in content.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in 'fiub':
            value = torch.from_numpy(np.array(value))
        if isinstance(name, str) and isinstance(value, Tensor):
            weights[name] = value
    try:
        return plain_names(weights)
    except CheckpointError as error:
        raise CheckpointError(f'{source}: {error}') from error


def _averaged(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The copies of weights that mmcv's EMAHook keeps in buffers, ``ema_backbone_conv1_weight``; or empty.

    At the end of an epoch the hook exchanges the two (source: mmcv, OpenMixup). In a file of that moment, the
    copy therefore holds the weights that were not averaged.
    """
    flat = {f'ema_{name.replace(".", "_")}': name for name in weights}
    copies = {flat[name]: tensor for name, tensor in weights.items() if name in flat}
    return (
        {**{name: tensor for name, tensor in weights.items() if name not in flat}, **copies} if copies else {}
    )
