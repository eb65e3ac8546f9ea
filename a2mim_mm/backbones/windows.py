"""Windows of tokens as pure functions: cut a map of patches into squares, and put it together again.

Shape suffixes: b batch, l tokens of the whole map (extra tokens such as cls, then h * w patches), d width,
w windows of the batch (b * rows * columns, the images outermost), s tokens of a window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .relative_position import Grid


def split_windows(tok_bld: Tensor, grid_hw: Grid, side: int) -> Tensor:
    """Cuts a map into windows; each gets a copy of the extra tokens.

    Args:
        tok_bld: (b, l, d), the extra tokens, if any, first.
        grid_hw: Rows and columns of the patches. If ``side`` does not divide them, the map is padded with
            zeros at the bottom and on the right; see :func:`padding_bias`.
        side: Patches along a side of a window.

    Returns:
        (w, s, d): windows row by row, the patches of a window row by row behind the extra tokens.
    """
    h, w = grid_hw
    extra, patches = tok_bld.split([tok_bld.shape[1] - h * w, h * w], dim=1)
    rows, cols = -(-h // side), -(-w // side)
    map_bhwd = F.pad(patches.unflatten(1, (h, w)), (0, 0, 0, cols * side - w, 0, rows * side - h))
    # All sizes written out: torch.compile takes long to reason about remainders and inferred ones.
    windows = map_bhwd.unflatten(2, (cols, side)).unflatten(1, (rows, side)).transpose(2, 3)
    extra = extra[:, None].expand(-1, rows * cols, -1, -1)
    return torch.cat((extra.flatten(0, 1), windows.flatten(3, 4).flatten(0, 2)), dim=1)


def merge_windows(tok_wsd: Tensor, grid_hw: Grid, side: int) -> Tensor:
    """Undoes :func:`split_windows`. The copies of an extra token are averaged, and the padding is cut off.

    Args:
        tok_wsd: (w, s, d).
        grid_hw: Rows and columns of the map, without padding.
        side: Patches along a side of a window.

    Returns:
        (b, l, d).
    """
    h, w = grid_hw
    rows, cols = -(-h // side), -(-w // side)
    extra, patches = tok_wsd.split([tok_wsd.shape[1] - side**2, side**2], dim=1)
    windows = patches.unflatten(1, (side, side)).unflatten(0, (-1, rows, cols)).transpose(2, 3)
    map_bhwd = windows.flatten(3, 4).flatten(1, 2)[:, :h, :w]
    return torch.cat((extra.unflatten(0, (-1, rows * cols)).mean(dim=1), map_bhwd.flatten(1, 2)), dim=1)


def padding_bias(tok_bld: Tensor, grid_hw: Grid, side: int) -> Tensor | None:
    """The bias that hides the padding of :func:`split_windows` from attention, for the same arguments.

    Returns:
        (w, 1, 1, s), 0 for tokens and -inf for padding, to be added to the logits; None without padding. No
        row of logits is completely hidden, because the padding is narrower than a window.
    """
    h, w = grid_hw
    if h % side == 0 and w % side == 0:
        return None
    real_ws = split_windows(torch.ones_like(tok_bld[..., :1]), grid_hw, side)[..., 0]
    return torch.zeros_like(real_ws).masked_fill(real_ws == 0, float('-inf'))[:, None, None]
