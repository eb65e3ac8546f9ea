"""How a feature holds its positions: as a map, channels last, or as tokens behind extra ones.

``bchw`` is (B, C, h, w), ``bhwc`` (B, h, w, C), and ``blc+N`` (B, N + h * w, C): N extra tokens such as cls,
then the patch tokens row by row.
"""

import re
from math import gcd

from torch import Tensor

from a2mim_mm.errors import InputError

LAYOUT = re.compile(r'bchw|bhwc|blc(\+\d+)?')
MAX_EXTRA_TOKENS = 8  # cls, distillation and register tokens in front of the patch tokens


def find_layout(shape: tuple[int, ...], channels: int, mask_bhw: Tensor) -> str:
    """The one layout that the shape of a feature fits, given its number of channels and the mask (B, h, w).

    Raises:
        ValueError: If the shape fits no layout or several.
    """
    fits = []
    if len(shape) == 4:
        fits = [name for name, axis in (('bchw', 1), ('bhwc', 3)) if shape[axis] == channels]
    elif len(shape) == 3 and shape[2] == channels:
        grid = mask_bhw.shape[1:]
        fits = [f'blc+{n}' for n in range(MAX_EXTRA_TOKENS + 1) if token_grid(shape[1] - n, grid, whole=True)]
        fits = fits or [f'blc+{n}' for n in range(MAX_EXTRA_TOKENS + 1) if token_grid(shape[1] - n, grid)]
    if len(fits) == 1:
        return fits[0]
    problem = f'fits the layouts {", ".join(fits)}: say which by layout=' if fits else 'fits no layout'
    widths = {shape[-1], shape[1]} if len(shape) == 4 else {shape[-1]}
    if channels not in widths:
        problem += f': it is {" or ".join(map(str, sorted(widths)))} channels wide'
    raise InputError(
        f'feature {shape} with channels={channels} on mask grid {tuple(mask_bhw.shape[1:])} {problem} '
        '(known: (B, C, h, w), (B, h, w, C), (B, n_extra + h * w, C))'
    )


def to_map(feat: Tensor, channels: int, mask_bhw: Tensor) -> Tensor:
    """A feature of any layout as a map (B, C, h', w'), without the extra tokens; see :func:`find_layout`."""
    layout = find_layout(tuple(feat.shape), channels, mask_bhw)
    if layout == 'bchw':
        return feat
    if layout == 'bhwc':
        return feat.permute(0, 3, 1, 2)
    num_extra = extra_tokens(layout)
    size = token_grid(feat.shape[1] - num_extra, mask_bhw.shape[1:])
    return feat[:, num_extra:].transpose(1, 2).unflatten(2, size)


def extra_tokens(layout: str) -> int:
    """N of 'blc+N', 0 of 'blc'."""
    return int(layout.removeprefix('blc') or 0)


def token_grid(num_tokens: int, grid: tuple[int, int], whole: bool = False) -> tuple[int, int] | None:
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
