"""What a format is: the names that a library gives to the weights of an encoder.

``*`` in a name stands for one part between dots, such as the number of a layer, or ``weight`` and ``bias``.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from torch import Tensor, nn

from a2mim_mm.checkpoints.load import build_network
from a2mim_mm.errors import first_names
from a2mim_mm.libraries import timm

from .encoder import ConversionError, Encoder

Weights = dict[str, Tensor]
Features = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Hints:
    """What weights do not show of their network, if it is known from elsewhere; None if it is not."""

    heads: int | None = None
    img_size: tuple[int, int] | None = None
    widths: dict[int, int] | None = None  # numbers of heads that a method uses, by width


@dataclass(frozen=True)
class Naming:
    """One way to name the weights of one family of encoders.

    Reading is: refuse, prepare, rename, build the pivot, finish. Writing is: express, rename.

    Args:
        name: Its name in the report.
        family: Class of the pivot that it names.
        signature: A name that all weights of this naming have, or one of several.
        encoder: Makes the pivot from weights under the pivot's names, and from what was folded before.
        build: The network of the library that has these names, from a pivot's config, filled strictly, as a
            :class:`Peer`.
        names: Names of the pivot, and of this naming; empty where they are the same.
        unlike: A name that none of the weights has, if ``signature`` is shared with another naming.
        refused: Patterns of whole names, and what a network with such a name has.
        prepare: Runs before renaming. Returns weights, and what was folded and why.
        finish: Runs on the pivot at the end.
        express: Weights by the pivot's names as this library has them, and what was left out, and why; None
            for a naming that is only read. It raises ConversionError if the library cannot hold the encoder.
    """

    name: str
    family: str
    signature: str | tuple[str, ...]
    encoder: Callable[[Weights, Hints, dict[str, str]], Encoder]
    build: Callable[[dict, Weights], nn.Module] | None = None
    names: Sequence[tuple[str, str]] = ()
    unlike: str | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Weights], tuple[Weights, dict[str, str]]] = lambda weights: (weights, {})
    finish: Callable[[Encoder], Encoder] = lambda encoder: encoder
    express: Callable[[Encoder], tuple[Weights, dict[str, str]]] | None = None

    def claims(self, names: Iterable[str]) -> bool:
        """Whether weights of these names can be of this naming at all."""
        names, signatures = list(names), self.signature
        signatures = (signatures,) if isinstance(signatures, str) else signatures
        return _any(names, signatures) and not (self.unlike and _any(names, (self.unlike,)))

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """The encoder that these weights belong to.

        Raises:
            ConversionError: If names are unknown or missing, or the weights do not decide what they are.
        """
        for pattern, what in self.refused.items():
            if any(re.fullmatch(pattern, name) for name in weights):
                raise ConversionError(what)
        weights, folded = self.prepare(weights)
        if self.names:
            weights = rename(weights, [(here, pivot) for pivot, here in self.names], self.name)
        return self.finish(self.encoder(weights, hints, folded))

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """Weights by the names of this naming, and what was left out, and why.

        Raises:
            ConversionError: If the naming cannot express the encoder.
        """
        weights, dropped = self.express(encoder)
        return rename(weights, self.names, self.name) if self.names else weights, dropped

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """The network of the library that has these names, with ``features`` to compare.

        For a CNN, these are the map of the last stage, or its normalised mean if the encoder has a last norm.
        For a ViT, they are all tokens, or their normalised mean.
        """
        return self.build(cfg, weights)


@dataclass(frozen=True)
class TimmNaming(Naming):
    """A naming of timm, whose network is what ``timm.create_model`` makes.

    Args:
        models: Beginnings of the names of timm's models with this naming.
        model: Name and arguments for ``timm.create_model``, from a pivot's config and its weights.
        as_peer: A model of timm as a :class:`Peer`.
        computed: Endings of names that timm computes and does not load.
    """

    models: tuple[str, ...] = ()
    model: Callable[[dict, Weights], tuple[str, dict]] | None = None
    as_peer: Callable[[nn.Module, dict], nn.Module] | None = None
    computed: tuple[str, ...] = ()

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """timm's network, filled strictly."""
        name, arguments = self.model(cfg, weights)
        network = timm().create_model(name, num_classes=0, **arguments)
        kept = {key: tensor for key, tensor in weights.items() if not key.endswith(self.computed)}
        network.load_state_dict(kept)
        return self.as_peer(network, cfg)


def as_it_is(encoder: Encoder) -> tuple[Weights, dict[str, str]]:
    """The weights of a pivot, for a library that holds every encoder of its family."""
    return dict(encoder.weights), {}


def filled(cfg: dict, weights: Weights) -> nn.Module:
    """The network of a registered class, filled strictly."""
    network = build_network(cfg)
    network.load_state_dict(weights)
    return network


def last_output(network: nn.Module) -> 'Peer':
    """A network of OpenMMLab, compared by its last output."""
    return Peer(network, lambda image: network(image)[-1])


class Peer(nn.Module):
    """A network with the function by which it is compared to another library's."""

    def __init__(self, network: nn.Module, features: Features) -> None:
        super().__init__()
        self.network = network
        self.features = features
        self.eval()


def rename(weights: Weights, pairs: Sequence[tuple[str, str]], naming: str) -> Weights:
    """Weights by their second names.

    Args:
        weights: Tensors by their first names.
        pairs: First and second names; with a ``*`` in the first, the same number in the second.
        naming: For the message.

    Raises:
        ConversionError: If names are not in the table, or two become one.
    """
    renamed, unknown = {}, []
    for name, tensor in weights.items():
        for first, second in pairs:
            match = _pattern(first).fullmatch(name)
            if match:
                new = _fill(second, match.groups())
                if new in renamed:
                    raise ConversionError(f'{name} and another name are both {new}')
                renamed[new] = tensor
                break
        else:
            unknown.append(name)
    if unknown:
        raise ConversionError(f'{naming} does not know {first_names(unknown)}')
    return renamed


def count(weights: Weights, name: str) -> int:
    """Length of a list of modules: one more than the largest number at the ``*`` of a name.

    Raises:
        ConversionError: If a number is missing.
    """
    found = {
        int(match[1]) for key in weights if (match := _pattern(name).fullmatch(key)) and match[1].isdigit()
    }
    if found != set(range(len(found))):
        missing = sorted(set(range(max(found))) - found)
        raise ConversionError(
            f'{name} exists with number {max(found)}, but not with {", ".join(map(str, missing[:5]))}'
        )
    return len(found)


def require(weights: Weights, names: Iterable[str]) -> None:
    """Check that weights have some names.

    Raises:
        ConversionError: If some are missing. Names the first few.
    """
    missing = [name for name in names if name not in weights]
    if missing:
        raise ConversionError(f'missing: {first_names(missing)}')


def shape_of(weights: Weights, name: str, rank: int) -> tuple[int, ...]:
    """Shape of a tensor of known rank.

    Raises:
        ConversionError: If it is missing or of another rank.
    """
    require(weights, [name])
    if weights[name].ndim != rank:
        raise ConversionError(
            f'of another shape: {name} {tuple(weights[name].shape)}, which needs {rank} dimensions'
        )
    return weights[name].shape


def check_against(network: nn.Module, weights: Weights) -> None:
    """Check names and shapes against those of a network, which may be on the meta device.

    Raises:
        ConversionError: If names are missing or unknown, or shapes differ. Names the first few.
    """
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    groups = {
        'missing': [
            name for name in expected if name not in weights and not name.endswith('num_batches_tracked')
        ],
        'unknown': [name for name in weights if name not in expected],
        'of another shape': [
            name for name, tensor in weights.items() if name in expected and tensor.shape != expected[name]
        ],
    }
    found = [f'{title}: {first_names(names)}' for title, names in groups.items() if names]
    if found:
        raise ConversionError('; '.join(found))


def _any(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(_pattern(pattern).fullmatch(name) for pattern in patterns for name in names)


@cache
def _pattern(name: str) -> re.Pattern:
    return re.compile(re.escape(name).replace(r'\*', r'([^.]+)'))


def _fill(name: str, parts: Sequence[str]) -> str:
    for part in parts:
        name = name.replace('*', part, 1)
    return name
