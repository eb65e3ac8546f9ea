"""Where checkpoints of one kind keep the encoder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .naming import Naming

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INCEPTION = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
FILE = ''  # the entry of a file that is a state dict itself
CLASSIFIER = r'(head|fc|head\.fc)\.(weight|bias)'


@dataclass(frozen=True)
class Origin:
    """Who wrote a checkpoint, and where in it the encoder is.

    Names are matched after ``module.``, the prefix of data parallel training, was removed.

    Args:
        rank: Its place in the table. If several origins read the same encoder, the first is reported.
        name: Its name for ``--from``.
        title: Its name in messages.
        namings: Possible names of the encoder's weights.
        prefix: The beginning of these names.
        outside: Pattern of whole names outside the encoder: decoder, mask token, projector.
        sign: Pattern of a name that distinguishes the origin; None if the namings already do.
        entries: Where in the file the state dict may be; the first that fits is taken.
        heads_by_width: Numbers of attention heads by width, if they are not the usual ones.
        mean_std: Normalisation of the images it was trained on, RGB in 0..1; None if it varies.
    """

    rank: int
    name: str
    title: str
    namings: tuple[Naming, ...]
    prefix: str = ''
    outside: str = r'(?!)'
    sign: str | None = None
    entries: tuple[str, ...] = (FILE, 'state_dict', 'model', 'module')
    heads_by_width: Mapping[int, int] | None = None
    mean_std: tuple | None = IMAGENET

    def split(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]] | None:
        """The encoder's weights and the other names; None if the file has another origin."""
        outside = [name for name in state if re.fullmatch(self.outside, name)]
        inside = [name for name in state if name not in set(outside)]
        signed = self.sign is None or any(re.fullmatch(self.sign, name) for name in state)
        if not inside or not signed or not all(name.startswith(self.prefix) for name in inside):
            return None
        return {name.removeprefix(self.prefix): state[name] for name in inside}, outside
