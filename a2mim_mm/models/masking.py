"""Where to hide.

A mask is a float tensor (B, h, w) on the mask grid, 1 = hidden, 0 = visible, everywhere in this package. It
follows from random scores of the same shape, one for each mask patch, and these follow from a seed that each
sample carries. So a mask does not depend on ranks, workers, devices, the batch or restarts.
"""

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from a2mim_mm.errors import InputError
from a2mim_mm.registry import MODELS


def mask_grid(input_hw: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Rows and columns of the mask grid of an input, whose height and width are in pixels.

    Raises:
        ValueError: If the patch does not divide both sides.
    """
    _check_patch_size(patch_size)
    height, width = input_hw
    if not height or not width or height % patch_size or width % patch_size:
        raise InputError(
            f'patch_size={patch_size} does not divide the input of {height} x {width} pixels: '
            f'choose an input whose sides are multiples of {patch_size}, or another patch_size'
        )
    grid = height // patch_size, width // patch_size
    if min(grid) < 4:
        warnings.warn(
            f'the mask grid has only {grid[0]} x {grid[1]} patches ({height} x {width} pixels, patch_size='
            f'{patch_size}): few masks exist and little context is left, choose a smaller patch_size',
            stacklevel=2,
        )
    return grid


def _check_patch_size(patch_size: int) -> None:
    if patch_size < 1:
        raise InputError(f'patch_size must be a positive number of pixels, got {patch_size}')


def hidden_count(ratio: float, num_patches: int) -> int:
    """Number of hidden patches, ``ceil(ratio * num_patches - 1e-9)``: 30 of 49 at ratio 0.6.

    The small number keeps products such as 0.07 * 100 = 7.000000000000001 at 7.

    Raises:
        ValueError: If ``ratio`` is outside (0, 1).
    """
    if not 0 < ratio < 1:
        raise InputError(f'ratio must lie strictly between 0 and 1, got {ratio}')
    return math.ceil(ratio * num_patches - 1e-9)


def draw_scores(seeds: Sequence[int | tuple[int, ...]], grid: tuple[int, int]) -> Tensor:
    """Random scores, float32 (B, h, w) in [0, 1); those of a sample follow from its seed alone."""
    random = np.random.RandomState()  # numpy keeps its numbers the same over all versions
    draws = []
    for seed in seeds:
        random.seed(seed)
        draws.append(random.random_sample(grid))
    # A multiple of 2^-24 is exact in float32, where other numbers could be rounded up to 1.
    return torch.from_numpy(np.floor(np.stack(draws) * (1 << 24)) / (1 << 24)).float()


def resize_mask(mask_bhw: Tensor, size: tuple[int, int]) -> Tensor:
    """D(M): the mask at the size of a feature map, or of the image, (B, *size).

    ``nearest-exact`` picks the mask patch that holds the centre of each cell. Sizes need not be multiples,
    and from the grid to the pixels it is exact.
    """
    return F.interpolate(mask_bhw[:, None], size=tuple(size), mode='nearest-exact')[:, 0]


class PatchMask(nn.Module):
    """What the kinds of mask share: patch, ratio, and how a mask follows from seeds."""

    def __init__(self, patch_size: int = 32, ratio: float = 0.6) -> None:
        super().__init__()
        _check_patch_size(patch_size)
        hidden_count(ratio, num_patches=1)  # which checks the ratio
        self.patch_size, self.ratio = patch_size, ratio

    @torch.compiler.disable
    def draw(self, seeds: Sequence[int | tuple[int, ...]], input_hw: tuple[int, int]) -> Tensor:
        """The masks of samples, (B, h, w), on the CPU; each follows from its seed alone.

        A seed is a number in [0, 2^32), or several. The input is measured in pixels.

        Raises:
            ValueError: If the patch does not divide the input.
        """
        return self(draw_scores(seeds, mask_grid(input_hw, self.patch_size)))


@MODELS.register_module()
class RandomPatchMask(PatchMask):
    """Hides the patches with the lowest scores, ``hidden_count`` of them in each sample.

    Args:
        patch_size: Side of a mask patch, in pixels (Table A1: 32).
        ratio: Share of the patches to hide, in (0, 1) (Section 5.1: 0.6).
    """

    def forward(self, scores_bhw: Tensor) -> Tensor:
        """(B, h, w) scores to a mask of the same shape, on their device."""
        scores_bn = scores_bhw.flatten(1)
        # A stable order hides the same patches everywhere if two scores are equal.
        order_bn = scores_bn.argsort(dim=1, stable=True)
        hidden = order_bn[:, : hidden_count(self.ratio, scores_bn.shape[1])]
        mask_bn = torch.zeros_like(scores_bn, dtype=torch.float32).scatter_(1, hidden, 1.0)
        return mask_bn.view(scores_bhw.shape)


@lru_cache(maxsize=16)
def _rectangles(rows: int, cols: int, count: int) -> Tensor:
    """All rectangles on the grid of the area nearest to ``count``: int64 (R, 4), top, left, bottom, right."""
    sides = [(h, w) for h in range(1, rows + 1) for w in range(1, cols + 1)]
    nearest = min(abs(h * w - count) for h, w in sides)
    fits = [(h, w) for h, w in sides if abs(h * w - count) == nearest]
    places = [(h, w, y, x) for h, w in fits for y in range(rows - h + 1) for x in range(cols - w + 1)]
    return torch.tensor([(top, left, top + h, left + w) for h, w, top, left in places])


@MODELS.register_module()
class RectangleMask(PatchMask):
    """Hides one rectangle in each sample: the masking of inpainting (Section 3.3, Figure 2e).

    Its area is as near to ``hidden_count`` as that of a rectangle on the grid can be. All such rectangles are
    equally likely.

    Args:
        patch_size: Side of a mask patch, in pixels.
        ratio: Share of the patches to hide, in (0, 1).
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
