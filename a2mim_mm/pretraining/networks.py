"""The network that a name means, and the config that it inherits."""

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from a2mim_mm.backbones.given_module import give_module
from a2mim_mm.checkpoints.backbone import BACKBONE
from a2mim_mm.checkpoints.errors import CheckpointError
from a2mim_mm.checkpoints.load import build_network
from a2mim_mm.checkpoints.read import load_checkpoint_file
from a2mim_mm.checkpoints.saved_config import check_network, read_saved_config
from a2mim_mm.convert.adopt import network_in
from a2mim_mm.engine.config import PACKAGE
from a2mim_mm.errors import InputError
from a2mim_mm.libraries import timm

CONFIGS = (PACKAGE / '.mim' / 'configs').resolve()
TIMM = 'timm:'
# ViT-S's token is at a layer that the rule does not give. ResNet-50's is, and at small images it has to move.
_OF_PAPER = dict(vit_small='a2mim_vit-s.py', vit_base='a2mim_vit-b.py')
_RESNET50 = dict(type='ResNet', depth=50)
# How libraries call the projections of attention; with them a network is trained as the paper trains ViTs.
_QUERIES = re.compile(r'(^|\.)(q|qkv|q_proj|query|in_proj_weight)(\.|$)')


@dataclass(frozen=True)
class Network:
    """A network, as a config has it.

    Args:
        base: The config file that it inherits.
        backbone: What the config says of the backbone; empty where ``base`` says it.
        mean_std: Normalisation of images that its weights are used to, RGB in 0..1; None for the config's.
    """

    base: Path
    backbone: dict
    mean_std: tuple | None = None


def network_of_weights(path: str | Path) -> Network:
    """The network that a file of weights belongs to.

    Raises:
        ValueError: If neither a config in the file nor its format tells the network.
    """
    try:
        backbone = read_saved_config(load_checkpoint_file(path), str(path))['model'].get(BACKBONE)
    except CheckpointError:  # written by others
        backbone, mean_std = network_in(path)
        return replace(find_network(backbone), mean_std=mean_std)
    check_network(backbone, str(path))
    return find_network(backbone)


def find_network(backbone: str | dict | nn.Module, image_size: int | tuple[int, int] = 224) -> Network:
    """The network that a user asks for.

    Args:
        backbone: A name of :func:`known_names`; ``timm:NAME``; the config of a registered class, such as
            ``dict(type='mmpretrain.ResNet', depth=50)``; or a module.
        image_size: Side of the images in pixels, or height and width, for networks built for one size.

    Raises:
        ValueError: If nothing has this name, or the network cannot be built. Names the nearest names.
    """
    if backbone == 'resnet50':
        backbone = _RESNET50
    elif isinstance(backbone, str) and not backbone.startswith(TIMM):
        return Network(_config_of(backbone), {})
    elif isinstance(backbone, str):
        backbone = _of_timm(backbone.removeprefix(TIMM), image_size)
    elif isinstance(backbone, nn.Module):
        backbone = give_module(backbone)
    elif not isinstance(backbone, dict) or 'type' not in backbone:
        raise InputError(
            f"backbone must be a name, 'timm:NAME', dict(type=...) or a module, got {backbone!r}"
        )
    attention = any(_QUERIES.search(name) for name, _ in build_network(backbone).named_parameters())
    return Network(CONFIGS / '_base_' / ('zoo_transformer.py' if attention else 'zoo.py'), dict(backbone))


def known_names() -> list[str]:
    """The names of the paper's networks, of the zoo, and of the networks for 32 pixels."""
    return ['resnet50', *_named_configs()]


def _named_configs() -> dict[str, Path]:
    folder = CONFIGS / 'selfsup'
    paper = {name: folder / file for name, file in _OF_PAPER.items()}
    others = [*folder.glob('zoo/*.py'), *folder.glob('cifar/*_cifar10.py')]
    return {**paper, **{path.stem: path for path in sorted(others)}}


def _config_of(name: str) -> Path:
    named = _named_configs()
    if name in named:
        return named[name]
    near = difflib.get_close_matches(name, known_names(), n=3)
    try:
        library = timm().list_models()
    except InputError:  # timm is not installed
        library = []
    near += [
        TIMM + one for one in ([name] if name in library else difflib.get_close_matches(name, library, 3))
    ]
    raise InputError(
        f'there is no backbone {name!r}; '
        + (f'the nearest names are {", ".join(near)}' if near else f'known: {", ".join(known_names())}')
    )


def _of_timm(name: str, image_size: int | tuple[int, int]) -> dict:
    """The config of a network of timm, with the size of the images if it is built for one size."""
    config = dict(type='a2mim_mm.TimmBackbone', model_name=name)
    fixed = build_network(config).pretrained_cfg.get('fixed_input_size', False)
    return {**config, 'img_size': image_size} if fixed else config
