"""What the config in a checkpoint tells of an encoder: a training of OpenMMLab saves one."""

from dataclasses import dataclass

from a2mim_mm.checkpoints.errors import CheckpointError
from a2mim_mm.checkpoints.saved_config import read_saved_config, registered_class, saved_input_size

from .encoder import ConversionError
from .naming import Hints


@dataclass(frozen=True)
class Saved:
    """What a saved config tells.

    Args:
        hints: Heads and image size of a ViT.
        mean_std: Normalisation of images, RGB in 0..1; None if it is not known.
        input_hw: Size of the crops of the training; None if it is not known.
    """

    hints: Hints = Hints()
    mean_std: tuple | None = None
    input_hw: tuple[int, int] | None = None


def read_saved(checkpoint: dict, source: str) -> Saved:
    """Read the config in a checkpoint as data. Without a config that can be read, nothing is known.

    Raises:
        ConversionError: If the config builds a network that the formats here do not have.
    """
    try:
        config = read_saved_config(checkpoint, source)
    except CheckpointError:
        return Saved()
    backbone = config.get('model', {}).get('backbone')
    hints = _hints_of(backbone, source) if isinstance(backbone, dict) else Hints()
    return Saved(hints, _mean_std_of(config), saved_input_size(config))


def _hints_of(backbone: dict, source: str) -> Hints:
    if backbone.get('style', 'pytorch') != 'pytorch':
        raise ConversionError(
            f'{source} was trained with style={backbone["style"]!r}, with strides in 1x1 convolutions: the '
            'formats here have them in 3x3 convolutions'
        )
    arch, size = backbone.get('arch'), backbone.get('img_size')
    if isinstance(arch, str):
        arch = getattr(registered_class(backbone.get('type')), 'arch_zoo', {}).get(arch)
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
