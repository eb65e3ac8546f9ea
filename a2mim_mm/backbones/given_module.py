"""A backbone that was made in Python, which a config can only name."""

from torch import nn

from a2mim_mm.errors import InputError
from a2mim_mm.registry import MODELS

_GIVEN: dict[str, nn.Module] = {}


def give_module(module: nn.Module) -> dict:
    """The config that stands for a module in this process."""
    name = type(module).__name__
    _GIVEN[name] = module
    return dict(type='a2mim_mm.GivenModule', name=name)


@MODELS.register_module(name='GivenModule')
def given_module(name: str) -> nn.Module:
    """The module that was given in this process.

    Args:
        name: Its class.

    Raises:
        ValueError: If none was given.
    """
    if name not in _GIVEN:
        raise InputError(
            f'the backbone {name} was a module in Python, which no file holds: give the module again, to '
            'pretrain() or load_backbone(path, backbone=MODULE)'
        )
    return _GIVEN[name]
