"""The mask of inpainting: one rectangle (Section 3.3, Figure 2e)."""

from functools import lru_cache

import torch
from torch import Tensor

from a2mim_mm.registry import MODELS

from .masking import PatchMask, hidden_count


@lru_cache(maxsize=16)
def _rectangles(rows: int, cols: int, count: int) -> Tensor:
    """All rectangles on the grid of the area nearest to ``count``: int64 (R, 4), top, left, bottom, right."""
    sides = [(h, w) for h in range(1, rows + 1) for w in range(1, cols + 1)]
    nearest = min(abs(h * w - count) for h, w in sides)
    return torch.tensor(
        [
            (top, left, top + h, left + w)
            for h, w in sides
            if abs(h * w - count) == nearest
            for top in range(rows - h + 1)
            for left in range(cols - w + 1)
        ]
    )


@MODELS.register_module()
class RectangleMask(PatchMask):
    """Hides one rectangle in each sample: the masking of inpainting (Section 3.3, Figure 2e).

    Its area is as near to ``hidden_count`` as that of a rectangle on the grid can be. All such rectangles are
    equally likely.

    Args:
        patch_size: Side of a mask patch, in pixels.
        ratio: Share of the patches to hide, in (0, 1).

    Raises:
        ValueError: If an argument is out of range.
    """

    def forward(self, scores_bhw: Tensor) -> Tensor:
        """The first of the (B, h, w) scores chooses a mask of the same shape, on their device."""
        _, rows, cols = scores_bhw.shape
        table = _rectangles(rows, cols, hidden_count(self.ratio, rows * cols)).to(scores_bhw.device)
        choice_b = (scores_bhw[:, 0, 0] * len(table)).long().clamp_(max=len(table) - 1)
        top, left, bottom, right = table[choice_b].T[..., None, None]
        row = torch.arange(rows, device=scores_bhw.device)[:, None]
        col = torch.arange(cols, device=scores_bhw.device)
        return ((row >= top) & (row < bottom) & (col >= left) & (col < right)).float()
