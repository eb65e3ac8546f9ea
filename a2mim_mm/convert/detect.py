"""Finds the encoder in a file: who wrote the file, by its names, and the pivot of its weights."""

import re
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from a2mim_mm.checkpoints.errors import CheckpointError
from a2mim_mm.checkpoints.load import check_finite, plain_names
from a2mim_mm.checkpoints.saved_config import read_saved_config, registered_class, saved_input_size
from a2mim_mm.errors import first_names

from .encoder import ConversionError, Encoder
from .formats import ORIGINS
from .naming import Hints, Naming
from .origin import FILE, Origin

_LIGHTNING = 'model.'
# lightly's ResNets are torch.nn.Sequential(*resnet.children()). Relu and maxpool, 2 and 3, have no weights.
_NUMBERED = {'0': 'conv1', '1': 'bn1', '4': 'layer1', '5': 'layer2', '6': 'layer3', '7': 'layer4'}
EMA = 'ema'  # the entry of the copies that mmcv's EMAHook keeps
_REASONS_SHOWN = 4
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Found:
    """An encoder in a file.

    Args:
        origin: Who wrote it.
        naming: How its weights are named in the file.
        entry: Where in the file the state dict is; ``''`` if the file is one.
        weights: Those of the encoder, under the names of the file.
        outside: Names of all else in the file.
        encoder: The pivot.
        mean_std: Normalisation of images, RGB in 0..1; None if the origins differ only in it.
        also: Names of other origins that read exactly the same encoder.
        input_hw: Size of the crops it was trained on; None if it is not known.
        rest: All else in the state dict, such as decoder, mask token and classifier.
    """

    origin: Origin
    naming: Naming
    entry: str
    weights: dict[str, Tensor]
    outside: tuple[str, ...]
    encoder: Encoder
    mean_std: tuple | None
    also: tuple[str, ...] = ()
    input_hw: tuple[int, int] | None = None
    rest: dict[str, Tensor] = field(default_factory=dict)


def detect(
    checkpoint: dict, source: str, origin: str = 'auto', hints: Hints | None = None, entry: str | None = None
) -> Found:
    """Find the encoder in what a file holds.

    Args:
        checkpoint: What the file holds.
        source: Where it comes from, for messages.
        origin: Name of a row of the table; ``'auto'`` finds it by the names.
        hints: What is known of the network apart from its weights. By default, the config in the file gives
            them.
        entry: Which of several state dicts in the file. None takes the one that the origin's own tools take.

    Returns:
        What was found. If several origins agree, the first in the table.

    Raises:
        ConversionError: If no origin fits, or several fit and read different encoders. Names them.
        CheckpointError: If there are no weights, or some are not finite.
    """
    entries = state_dicts(checkpoint, source)
    if entry is not None and entry not in entries:
        raise ConversionError(f'{source} has no state dict {entry!r}; it has {", ".join(map(repr, entries))}')
    if origin != 'auto' and origin not in ORIGINS:
        raise ConversionError(f'there is no format {origin!r} to read; known: auto, {", ".join(ORIGINS)}')
    saved = _saved_config(checkpoint, source)
    _check_style(saved, source)
    hints = hints or _hints_of(saved)
    found, reasons = [], {}
    for row in ORIGINS.values() if origin == 'auto' else (ORIGINS[origin],):
        for name in [name for name in row.entries if name in entries] if entry is None else [entry]:
            matches = _read_as(row, entries[name], name, source, hints, reasons)
            if matches is not None:  # do not try the next entry if this one is damaged
                found += matches
                break
    if not found and entry is None and len(entries) == 1 and not _usual(entries):
        return detect(checkpoint, source, origin, hints, next(iter(entries)))  # the only one there is
    if not found:
        raise ConversionError(_refusal(source, entries, reasons))
    different = [other for other in found[1:] if not _same(found[0].encoder, other.encoder)]
    if different:
        names = dict.fromkeys(
            f'{other.origin.name} ({other.naming.name})' for other in [found[0], *different]
        )
        raise ConversionError(
            f'{source} is ambiguous: {" and ".join(names)} read different networks. Choose with --from'
        )
    check_finite(found[0].weights, source)
    agreed = len({other.mean_std for other in found}) == 1
    beside = tuple(f'{name}: {len(entries[name])} weights' for name in entries if name != found[0].entry)
    return replace(
        found[0],
        outside=found[0].outside + beside,
        mean_std=_mean_std_of(saved) or (found[0].mean_std if agreed else None),
        also=tuple(dict.fromkeys(other.origin.name for other in found[1:])),
        input_hw=saved_input_size(saved),
    )


def _usual(entries: dict[str, dict]) -> bool:
    """Whether one of the state dicts has a key that some origin uses."""
    return any(name in row.entries for row in ORIGINS.values() for name in entries)


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


def _read_as(
    row: Origin, state: dict, entry: str, source: str, hints: Hints, reasons: dict[str, list[str]]
) -> list[Found] | None:
    """What one row reads in a state dict; None if the state dict belongs to another row.

    If a naming claims the weights and cannot read them, ``reasons`` says why.
    """
    parts = row.split(state)
    if parts is None or not any(naming.claims(parts[0]) for naming in row.namings):
        return None
    weights, outside = parts
    _check_dtypes(weights, source)
    hints = replace(hints, widths=row.heads_by_width)
    found = []
    for naming in row.namings:
        if not naming.claims(weights):
            continue
        try:
            encoder = naming.read(weights, hints)
        except ConversionError as error:
            reasons.setdefault(str(error), []).append(row.name)
        else:
            rest = {name: state[name] for name in outside}
            found.append(Found(row, naming, entry, weights, tuple(outside), encoder, row.mean_std, rest=rest))
    return found


def _saved_config(checkpoint: dict, source: str) -> dict:
    """The config that a training of OpenMMLab saves, read as data; empty if there is none."""
    try:
        return read_saved_config(checkpoint, source)
    except CheckpointError:
        return {}


def _check_style(saved: dict, source: str) -> None:
    cfg = saved.get('model', {}).get('backbone')
    if isinstance(cfg, dict) and cfg.get('style', 'pytorch') != 'pytorch':
        raise ConversionError(
            f'{source} was trained with style={cfg["style"]!r}, with strides in the 1x1 convolutions: the '
            'formats here have them in the 3x3 convolutions'
        )


def _hints_of(saved: dict) -> Hints:
    """Heads and image size of a ViT, from a saved config."""
    cfg = saved.get('model', {}).get('backbone')
    if not isinstance(cfg, dict):
        return Hints()
    arch, size = cfg.get('arch'), cfg.get('img_size')
    if isinstance(arch, str):
        arch = getattr(registered_class(cfg.get('type')), 'arch_zoo', {}).get(arch)
    heads = arch.get('num_heads') if isinstance(arch, dict) else None
    sides = [size, size] if isinstance(size, int) else size
    whole = isinstance(sides, list) and len(sides) == 2 and all(isinstance(side, int) for side in sides)
    return Hints(
        heads=heads if isinstance(heads, int) and heads > 0 else None,
        img_size=tuple(sides) if whole else None,
    )


def _mean_std_of(saved: dict) -> tuple | None:
    """Normalisation of images in 0..1, from a saved config."""
    preprocessor = saved.get('model', {}).get('data_preprocessor') or saved.get('data_preprocessor') or {}
    numbers = [preprocessor.get(key) for key in ('mean', 'std')] if isinstance(preprocessor, dict) else []
    if not numbers or not all(isinstance(values, list) and len(values) == 3 for values in numbers):
        return None
    if not all(isinstance(value, int | float) for values in numbers for value in values):
        return None
    return tuple(tuple(round(value / 255, 6) for value in values) for values in numbers)


def _same(first: Encoder, second: Encoder) -> bool:
    return (
        first.cfg == second.cfg
        and first.weights.keys() == second.weights.keys()
        and all(
            tensor is second.weights[name] or torch.equal(tensor, second.weights[name])
            for name, tensor in first.weights.items()
        )
    )


def _check_dtypes(weights: dict[str, Tensor], source: str) -> None:
    """Refuse tensors that are sparse, quantised, complex or without storage."""
    for name, tensor in weights.items():
        dense = tensor.layout is torch.strided and tensor.device.type == 'cpu'
        computed = name.endswith(('num_batches_tracked', '_index')) and not tensor.is_complex()
        if not dense or not (computed or tensor.dtype in _DTYPES):
            raise CheckpointError(
                f'{source} must hold plain numbers, but {name} is {tensor.dtype}, {tensor.layout}'
            )


def _refusal(source: str, entries: dict[str, dict], reasons: dict[str, list[str]]) -> str:
    if reasons:
        shown = [f'{reason} (as {", ".join(rows)})' for reason, rows in [*reasons.items()][:_REASONS_SHOWN]]
        return f'{source} resembles known formats, but cannot be read:\n  ' + '\n  '.join(shown)
    largest = max(entries.values(), key=len)
    if not _usual(entries):
        named = ', '.join(f'{name!r} ({len(weights)} weights)' for name, weights in entries.items())
        return (
            f'{source} holds several state dicts, none under a usual key: choose with --entry one of {named}'
        )
    return (
        f'the format of {source} is not known. Its {len(largest)} weights include {first_names([*largest])}. '
        f'Known: {", ".join(ORIGINS)}; what each is: docs/checkpoints.md'
    )
