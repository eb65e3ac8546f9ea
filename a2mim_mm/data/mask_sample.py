"""Looks at some masks of a segmentation data set before a loss meets values without a class."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from a2mim_mm.errors import InputError

SAMPLE = 64  # masks; decoding one of 512 x 512 takes milliseconds


def check_masks(
    infos: Sequence[dict], load: Callable[[dict], dict], classes: Sequence[str] | int, ignore: set[int]
) -> list[str]:
    """Load some masks, spread evenly over the list and the same each time, and check their values.

    Args:
        infos: What the data set lists: ``seg_map_path`` and whatever ``load`` needs.
        load: The data set's own ``LoadAnnotations``; returns ``gt_seg_map``, of shape (H, W).
        classes: The names of the values 0, 1, 2, ..., or their number.
        ignore: The values that all losses ignore.

    Returns:
        A warning if some classes never occur while an ignored value does.

    Raises:
        ValueError: If a mask is not two-dimensional or has a value without a class. Names the file.
    """
    count = classes if isinstance(classes, int) else len(classes)
    chosen = np.unique(np.linspace(0, len(infos) - 1, SAMPLE).round().astype(int))
    seen: set[int] = set()
    stray: dict[int, str] = {}  # value: the first file
    for index in chosen:
        path = infos[index]['seg_map_path']
        values = set(np.unique(_load(infos[index], load)).tolist())
        for value in sorted(values - set(range(count)) - ignore):
            stray.setdefault(value, path)
        seen |= values
    if stray:
        value, path = min(stray.items())
        raise InputError(
            f'{path} has the value {value}, but {count} classes have the values 0 to {count - 1}'
            f'{_remedy(seen, set(stray), count, ignore)}'
        )
    ignored = sorted(seen & ignore)
    unseen = [label for label in range(count) if label not in seen]
    if not ignored or not unseen or infos[0].get('reduce_zero_label'):
        return []
    names = [str(label) if isinstance(classes, int) else f'{classes[label]!r} ({label})' for label in unseen]
    shown = ', '.join(names[:5]) + (f', and {len(names) - 5} more' if len(names) > 5 else '')
    return [
        f'in {len(chosen)} masks, such as {infos[0]["seg_map_path"]}, no pixel is of class {shown}. The '
        f'value {ignored[0]} occurs, and it is ignored: the model never learns what is drawn as {ignored[0]}'
    ]


def _load(info: dict, load: Callable[[dict], dict]) -> np.ndarray:
    path = info['seg_map_path']
    try:
        mask = load(dict(info, seg_fields=[]))['gt_seg_map']
    except (OSError, AssertionError, SyntaxError) as error:
        raise InputError(f'{path} cannot be loaded as a mask: {error}') from error
    if mask.ndim != 2:
        raise InputError(
            f'{path} has {mask.shape[-1]} channels, but a mask has one with the number of the class '
            "(Pillow's modes L and P; RGB and RGBA hold colours)"
        )
    highest = _highest_of_16_bits(path)
    if highest > 255:
        raise InputError(f'{path} has values up to {highest}, but only 8 bits are read: write 0 to 255')
    return mask


def _highest_of_16_bits(path: str) -> int:
    """The highest value of a mask of more than 8 bits, where 256 would be read as 0; 0 for other masks."""
    try:
        with Image.open(path) as image:
            return image.getextrema()[1] if image.mode.startswith('I') else 0
    except OSError:  # not a file of this machine, or a format that only the data set's loader knows
        return 0


def _remedy(seen: set[int], stray: set[int], count: int, ignore: set[int]) -> str:
    """What to write, as far as the values tell."""
    void = min(ignore, default=255)
    if stray == {count} and 0 not in seen:
        return ': the values begin with 1: set reduce_zero_label=True in the data set, or write them from 0'
    if stray == {count}:
        return f': write it as {void}, which is ignored, or name one more class'
    values = ', '.join(map(str, sorted(seen)[:10])) + (', ...' if len(seen) > 10 else '')
    return (
        f' (the masks have {values}): number the classes from 0 without gaps, name all of them in '
        f'metainfo.classes, and write {void} for what is to be ignored'
    )
