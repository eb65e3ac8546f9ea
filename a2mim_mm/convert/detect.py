"""Finds the encoder in a file: who wrote the file, by its names, and the pivot of its weights."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from a2mim_mm.checkpoints.errors import CheckpointError
from a2mim_mm.checkpoints.load import check_finite
from a2mim_mm.errors import first_names
from a2mim_mm.libraries import LibraryMissing

from .encoder import ConversionError, Encoder
from .entries import state_dicts
from .formats import ORIGINS
from .naming import Hints, Naming
from .origin import Origin
from .saved import read_saved

_REASONS_SHOWN = 4
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class UnknownFormatError(ConversionError):
    """No format fits the names in a file."""


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
        UnknownFormatError: If no origin fits.
        ConversionError: If several fit and read different encoders. Names them.
        CheckpointError: If there are no weights, or some are not finite.
    """
    entries = state_dicts(checkpoint, source)
    if entry is not None and entry not in entries:
        raise ConversionError(f'{source} has no state dict {entry!r}; it has {", ".join(map(repr, entries))}')
    if origin != 'auto' and origin not in ORIGINS:
        raise ConversionError(f'there is no format {origin!r} to read; known: auto, {", ".join(ORIGINS)}')
    saved = read_saved(checkpoint, source)
    hints = hints or saved.hints
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
        raise UnknownFormatError(_refusal(source, entries, reasons))
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
        mean_std=saved.mean_std or (found[0].mean_std if agreed else None),
        also=tuple(dict.fromkeys(other.origin.name for other in found[1:])),
        input_hw=saved.input_hw,
    )


def _usual(entries: dict[str, dict]) -> bool:
    """Whether one of the state dicts has a key that some origin uses."""
    return any(name in row.entries for row in ORIGINS.values() for name in entries)


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
        except (ConversionError, LibraryMissing) as error:
            reasons.setdefault(str(error), []).append(row.name)
        else:
            rest = {name: state[name] for name in outside}
            found.append(Found(row, naming, entry, weights, tuple(outside), encoder, row.mean_std, rest=rest))
    return found


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
