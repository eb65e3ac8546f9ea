"""What a format is: the names that a library gives to the weights of an encoder.

``*`` in a name stands for one part between dots, such as the number of a layer, or ``weight`` and ``bias``.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from torch import Tensor, nn

from a2mim_mm.errors import first_names

from .encoder import ConversionError, Encoder
from .libraries import timm

Weights = dict[str, Tensor]
Features = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Hints:
    """What weights do not tell of their network, where it is known from elsewhere; None: not known."""

    heads: int | None = None
    img_size: tuple[int, int] | None = None
    widths: dict[int, int] | None = None  # heads of a method's own sizes, by width


class Naming(ABC):
    """One way to name the weights of one family of encoders.

    Attributes:
        name: How the report calls it.
        family: Class of the pivot that it can express.
        signature: A name that all weights of this naming have.
        unlike: A name that none of them has, where ``signature`` is shared with another naming.
    """

    name: str
    family: str
    signature: str
    unlike: str | None = None

    def claims(self, names: Iterable[str]) -> bool:
        """Whether weights of these names can be of this naming at all."""
        names = list(names)
        present = any(_pattern(self.signature).fullmatch(name) for name in names)
        strange = self.unlike and any(_pattern(self.unlike).fullmatch(name) for name in names)
        return present and not strange

    @abstractmethod
    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """The encoder that the weights are of.

        Raises:
            ConversionError: If names are unknown or missing, or the weights leave open what they are.
        """

    @abstractmethod
    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """Weights by the names of this naming, and what was left out, and why.

        Raises:
            ConversionError: If the naming cannot express the encoder.
        """

    @abstractmethod
    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """The network of the library that has these names, built from a pivot's config, loaded strictly.

        Its ``features(images)`` is comparable over namings: of a CNN the map of the last stage, or its
        normalised mean where the encoder has a last norm; of a ViT all tokens, or their normalised mean.
        """


class TimmNaming(Naming):
    """A naming of timm, whose peer is what ``timm.create_model`` makes.

    Attributes:
        models: Beginnings of the names of timm's models that have it.
    """

    models: tuple[str, ...]

    @abstractmethod
    def model(self, cfg: dict, weights: Weights) -> tuple[str, dict]:
        """Name and arguments for ``timm.create_model``, from a pivot's config."""

    @abstractmethod
    def as_peer(self, network: nn.Module, cfg: dict) -> nn.Module:
        """A model of timm with its ``features``."""

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`."""
        name, arguments = self.model(cfg, weights)
        network = timm().create_model(name, num_classes=0, **arguments)
        network.load_state_dict(weights)
        return self.as_peer(network, cfg)


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
        raise ConversionError(f'{naming} has no {first_names(unknown)}')
    return renamed


def swapped(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """A table of names the other way round."""
    return [(second, first) for first, second in pairs]


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
            f'of {name} there is a number {max(found)}, but no {", ".join(map(str, missing[:5]))}'
        )
    return len(found)


def require(weights: Weights, names: Iterable[str]) -> None:
    """Check that names are there.

    Raises:
        ConversionError: Names the first few that are not.
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
            f'of another shape: {name} {tuple(weights[name].shape)}, not of {rank} dimensions'
        )
    return weights[name].shape


def check_against(network: nn.Module, weights: Weights) -> None:
    """Check names and shapes against those of a network, which may have no storage.

    Raises:
        ConversionError: Names the first few that are missing, unknown, or of another shape.
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


@cache
def _pattern(name: str) -> re.Pattern:
    return re.compile(re.escape(name).replace(r'\*', r'([^.]+)'))


def _fill(name: str, parts: Sequence[str]) -> str:
    for part in parts:
        name = name.replace('*', part, 1)
    return name
