"""Robustness against occlusion: accuracy against the share of hidden patches (Section 3.1, Figures 1, A1).

After Naseer et al., "Intriguing properties of vision transformers" (2021). An image is cut into patches; a
*ranking* says which of them go first: at occlusion ratio r, the round(r * n) patches of lowest rank.

Shape suffixes: b images, n patches, r ratios.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from a2mim_mm.errors import InputError
from a2mim_mm.models.masking import resize_mask

from .patches import hide_patches, log_odds

Network = Callable[[Tensor], Tensor]
ORDERS = ('random', 'salient', 'non-salient')


def drop_counts(ratios: Sequence[float], num_patches: int) -> list[int]:
    """Number of hidden patches for each ratio, ``round(ratio * num_patches)``.

    Raises:
        ValueError: If a ratio is outside [0, 1].
    """
    outside = [ratio for ratio in ratios if not 0 <= ratio <= 1]
    if outside or not ratios:
        raise InputError(f'occlusion ratios must lie in 0..1, got {outside or "none"}')
    return [round(ratio * num_patches) for ratio in ratios]


def random_ranking(seed: int, repeat: int, images: Sequence[int], num_patches: int) -> Tensor:
    """A random ranking (b, n) for each image, which follows from (seed, repeat, number of the image) alone.

    So all models see the same patches hidden, whatever the size of their batches.
    """
    return torch.stack(
        [
            torch.from_numpy(np.random.default_rng((seed, repeat, image)).permutation(num_patches))
            for image in images
        ]
    )


def salient_ranking(
    network: Network, img_b3hw: Tensor, labels_b: Tensor, grid: tuple[int, int], colour: Tensor
) -> Tensor:
    """The ranking (b, n) that hides first what speaks most for the true class, to the network itself.

    A patch counts by what hiding it takes from the log-odds of the true class, to first order: the gradient
    times the difference to the colour of hidden patches, over the pixels of the patch.

    (Naseer et al. order by the attention of a DINO network, which has to be at hand.)
    """
    img_b3hw = img_b3hw.detach().requires_grad_()
    with torch.enable_grad():
        (gradient_b3hw,) = torch.autograd.grad(log_odds(network(img_b3hw), labels_b).sum(), img_b3hw)
    effect_bhw = (gradient_b3hw * (img_b3hw.detach() - colour)).sum(1)
    num_patches = grid[0] * grid[1]
    patch_1hw = torch.arange(num_patches, dtype=effect_bhw.dtype, device=effect_bhw.device).view(1, *grid)
    patch_of_pixel = resize_mask(patch_1hw, effect_bhw.shape[1:]).flatten(1).long()
    effect_bn = effect_bhw.new_zeros(len(effect_bhw), num_patches).scatter_add_(
        1, patch_of_pixel.expand(len(effect_bhw), -1), effect_bhw.flatten(1)
    )
    return effect_bn.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


@torch.no_grad()
def correct_when_occluded(
    network: Network,
    img_b3hw: Tensor,
    labels_b: Tensor,
    ranking_bn: Tensor,
    counts: Sequence[int],
    grid: tuple[int, int],
    colour: Tensor,
) -> Tensor:
    """Whether each image is classified rightly when the first patches of its ranking are hidden.

    Args:
        network: Normalised images (b, 3, H, W) to logits (b, classes).
        img_b3hw: Normalised images.
        labels_b: True classes.
        ranking_bn: A permutation of 0..n-1 for each image; the lowest are hidden first.
        counts: Numbers of hidden patches.
        grid: Rows and columns of the patches.
        colour: What :func:`fill_colour` gives.

    Returns:
        bool (r, b), on the CPU.

    Raises:
        ValueError: If a logit is not finite.
    """
    correct = []
    for count in counts:
        logits_bc = network(hide_patches(img_b3hw, ranking_bn < count, grid, colour))
        if not logits_bc.isfinite().all():
            raise InputError('the network gives logits that are not finite')
        correct.append((logits_bc.argmax(dim=1) == labels_b).cpu())
    return torch.stack(correct)
