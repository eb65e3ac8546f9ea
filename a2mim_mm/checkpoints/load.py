"""Builds a network and fills it from a checkpoint: all of it, or what fits."""

import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from mmengine.model import is_model_wrapper
from torch import nn

from a2mim_mm.errors import first_names
from a2mim_mm.registry import MODELS

from .errors import CheckpointError

_WRAPPERS = re.compile(r'^((module|_orig_mod)\.)+|\b_orig_mod\.')


def build_network(cfg: dict) -> nn.Module:
    """A network with the weights that its class starts with.

    Args:
        cfg: ``type`` and arguments of a registered class. A name without a prefix is mmpretrain's, unless
            ``_scope_`` names another library.
    """
    return MODELS.build({'_scope_': 'mmpretrain', **cfg})


def fill_all(network: nn.Module, checkpoint: dict, source: str) -> None:
    """Fill a whole network from what a file holds; see :func:`load_strictly`."""
    load_strictly(network, checkpoint.get('state_dict', checkpoint), source)


def load_network(
    cfg: dict, checkpoint: dict, source: str, fill: Callable[[nn.Module, dict, str], None] = fill_all
) -> nn.Module:
    """Build a network and fill it from a checkpoint.

    Args:
        cfg: Config of the network, for :func:`build_network`.
        checkpoint: What the file holds.
        source: Where it comes from, for messages.
        fill: Fills the network with weights of the file: :func:`fill_all`, or
            :func:`~a2mim_mm.checkpoints.backbone.fill_backbone` where it is the backbone of a larger model.

    Returns:
        The network, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: If the network cannot be built, or the checkpoint does not fill it.
    """
    try:
        network = build_network(cfg)
    except Exception as error:  # whatever arguments of any kind make a class stumble over
        raise CheckpointError(
            f'the network in {source} cannot be built: {type(error).__name__}: {error}'
        ) from error
    fill(network, checkpoint, source)
    network.eval()  # on a line of its own: mmpretrain's ViT returns None
    return network


def load_strictly(model: nn.Module, state_dict: dict, source: str) -> None:
    """Load weights. None may be missing, left over, or of another shape.

    Args:
        model: The model to fill.
        state_dict: Names and tensors. What wrappers add to names is removed.
        source: Where they come from, for the message.

    Raises:
        CheckpointError: If names or shapes differ, or numbers are not finite. Names the first few.
    """
    weights = plain_names(state_dict)
    check_finite(weights, source)
    misfit = load_what_fits(model, weights)
    groups = {
        'missing in the file': misfit.missing,
        'unknown to the model': misfit.unexpected,
        'of another shape': misfit.misshapen,
    }
    found = [f'{len(names)} {title} ({first_names(names)})' for title, names in groups.items() if names]
    if found:
        raise CheckpointError(
            f'{source} is the checkpoint of another model than this {type(model).__name__}: '
            + '; '.join(found)
        )


def plain_names(state_dict: dict) -> dict:
    """A state dict without what data parallel training and ``torch.compile`` add to names.

    Raises:
        CheckpointError: If a name occurs both with and without it.
    """
    plain = {}
    for key, value in state_dict.items():
        name = _WRAPPERS.sub('', key) if isinstance(key, str) else key
        if name in plain:
            raise CheckpointError(
                f'the checkpoint holds {name} twice: as {key}, and without what wrappers add'
            )
        plain[name] = value
    return plain


def check_finite(weights: dict, source: str) -> None:
    """Refuse weights with NaN or infinite numbers.

    Raises:
        CheckpointError: If there are some. Names the tensors.
    """
    damaged = [
        name
        for name, value in weights.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if damaged:
        raise CheckpointError(f'{source} holds numbers that are not finite: {first_names(damaged)}')


class Misfit(NamedTuple):
    """Names in which a state dict and a model differ."""

    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]


def load_what_fits(model: nn.Module, weights: dict[str, torch.Tensor]) -> Misfit:
    """Load weights, and say which do not fit. If some are ``misshapen``, the model is partly loaded."""
    misshapen = []
    try:
        keys = model.load_state_dict(weights, strict=False)
        missing, unexpected = keys.missing_keys, keys.unexpected_keys
    except RuntimeError as error:
        misshapen = re.findall(r'size mismatch for ([^:\s]+)', str(error))
        if not misshapen:
            raise
        expected = model.state_dict()
        missing = [key for key in expected if key not in weights]
        unexpected = [key for key in weights if key not in expected]
    # Older BatchNorms were saved without their counter. Nothing reads it.
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    return Misfit(missing, unexpected, misshapen)


def unwrap(model: nn.Module) -> nn.Module:
    """The model itself, also if a Runner has wrapped it for several ranks."""
    return model.module if is_model_wrapper(model) else model
