"""How a feature holds its positions: as a map, channels last, or as tokens behind extra ones.

``bchw`` is (B, C, h, w), ``bhwc`` (B, h, w, C), and ``blc+N`` (B, N + h * w, C): N extra tokens such as cls,
then the patch tokens row by row.
"""

import re
from collections.abc import Sequence
from math import gcd

from torch import Tensor

from a2mim_mm.errors import InputError

LAYOUT = re.compile(r'bchw|bhwc|blc(\+\d+)?')
MAX_EXTRA_TOKENS = 8  # cls, distillation and register tokens in front of the patch tokens


def find_layout(shape: Sequence[int], channels: int, grid: Sequence[int]) -> str:
    """The one layout that the shape of a feature fits, given its number of channels and the mask grid (h, w).

    Raises:
        ValueError: If the shape fits no layout or several.
    """
    shape, grid = tuple(shape), tuple(grid)
    fits = []
    if len(shape) == 4:
        fits = [name for name, axis in (('bchw', 1), ('bhwc', 3)) if shape[axis] == channels]
    elif len(shape) == 3 and shape[2] == channels:
        fits = [f'blc+{n}' for n in range(MAX_EXTRA_TOKENS + 1) if token_grid(shape[1] - n, grid, whole=True)]
        fits = fits or [f'blc+{n}' for n in range(MAX_EXTRA_TOKENS + 1) if token_grid(shape[1] - n, grid)]
    if len(fits) == 1:
        return fits[0]
    problem = f'fits the layouts {", ".join(fits)}: say which by layout=' if fits else 'fits no layout'
    widths = {shape[-1], shape[1]} if len(shape) == 4 else {shape[-1]}
    if channels not in widths:
        problem += f': it is {" or ".join(map(str, sorted(widths)))} channels wide'
    raise InputError(
        f'feature {shape} with channels={channels} on mask grid {grid} {problem} '
        '(known: (B, C, h, w), (B, h, w, C), (B, n_extra + h * w, C))'
    )


def guess_layout(shape: Sequence[int], input_hw: tuple[int, int]) -> str | None:
    """The layout of a feature whose number of channels is not known; None if it has no positions.

    A map has the proportions of the image, (H, W) in pixels. Where several layouts have them, its sides
    divide those of the image, channels come first, and extra tokens are few.
    """
    if len(shape) == 4:
        sizes = dict(bchw=shape[2:], bhwc=shape[1:3])
        layout = min(
            sizes, key=lambda name: (_misfit(sizes[name], input_hw), _remainder(sizes[name], input_hw))
        )
        return layout if _misfit(sizes[layout], input_hw) < 1 else None
    if len(shape) == 3:
        for whole in (True, False):
            for extra in range(MAX_EXTRA_TOKENS + 1):
                if token_grid(shape[1] - extra, input_hw, whole):
                    return f'blc+{extra}'
    return None


def to_map(feat: Tensor, layout: str, proportions_hw: Sequence[int]) -> Tensor:
    """A feature as a map (B, C, h', w'), without the extra tokens.

    Args:
        feat: The feature.
        layout: Its layout.
        proportions_hw: Anything of the proportions of the map: the image or the mask grid.

    Raises:
        ValueError: If the tokens form no grid of these proportions.
    """
    if layout == 'bchw':
        return feat
    if layout == 'bhwc':
        return feat.permute(0, 3, 1, 2)
    num_extra = extra_tokens(layout)
    size = token_grid(feat.shape[1] - num_extra, proportions_hw)
    if size is None:
        raise InputError(
            f'the {feat.shape[1]} tokens of {tuple(feat.shape)}, less {num_extra}, form no grid of the '
            f'proportions {tuple(proportions_hw)}'
        )
    return feat[:, num_extra:].transpose(1, 2).unflatten(2, size)


def extra_tokens(layout: str) -> int:
    """N of 'blc+N', 0 of 'blc'."""
    return int(layout.removeprefix('blc') or 0)


def token_grid(num_tokens: int, grid: Sequence[int], whole: bool = False) -> tuple[int, int] | None:
    """Rows and columns of ``num_tokens`` patch tokens, in the proportions of the mask grid; else None.

    With ``whole``, only scales that are whole numbers, or one over a whole number.
    """
    common = gcd(*grid)
    rows, cols = grid[0] // common, grid[1] // common
    scale = round((max(num_tokens, 0) / (rows * cols)) ** 0.5)
    if not scale or rows * cols * scale**2 != num_tokens:
        return None
    if whole and scale % common and common % scale:
        return None
    return rows * scale, cols * scale


def _misfit(size_hw: Sequence[int], input_hw: Sequence[int]) -> float:
    """How far a map is from the proportions of the image; below 1, it is less than a row or column off."""
    common = gcd(*input_hw)
    height, width = input_hw[0] // common, input_hw[1] // common
    return abs(size_hw[0] * width - size_hw[1] * height) / max(height, width)


def _remainder(size_hw: Sequence[int], input_hw: Sequence[int]) -> int:
    """What is left when the sides of the image are divided by those of a map."""
    return sum(side % count for side, count in zip(input_hw, size_hw, strict=True))
