"""Robustness against occlusion: accuracy against the share of hidden patches (Section 3.1, Figures 1, A1).

After Naseer et al., "Intriguing properties of vision transformers" (2021). An image is cut into patches. A
*ranking* says which of them are hidden first: at occlusion ratio r, the round(r * n) patches of lowest rank.

Shape suffixes: b images, n patches, r ratios.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from a2mim_mm.errors import InputError
from a2mim_mm.models.masking import mask_grid, resize_mask

from .figures import draw_occlusion
from .measuring import analyse, progress
from .networks import Source, Subject, load_classifier
from .patches import fill_colour, hide_patches, log_odds
from .photos import Photos, choose_photos

Network = Callable[[Tensor], Tensor]
ORDERS = ('random', 'salient', 'non-salient')
COLUMNS = dict(ratio='ratios', dropped='dropped', top1_mean='mean', top1_std='std')


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
    """A random ranking (b, n), which follows for each image from (seed, repeat, its number) alone.

    So all models get the same hidden patches, at any batch size.
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
    """The ranking (b, n) that first hides the patches which the network itself relies on most.

    The score of a patch is the drop of the log-odds of the true class when it is hidden, to first order: the
    gradient times the difference to the colour of hidden patches, summed over the pixels of the patch.
    Naseer et al. order by the attention of a DINO network instead.
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
    """Whether each image is classified correctly when the first patches of its ranking are hidden.

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


def correct_of_batch(
    subject: Subject, img_b3hw: Tensor, labels_b: Tensor, images: range, args: argparse.Namespace
) -> Tensor:
    """Whether each image is classified correctly, bool (repeats, ratios, b); ``images`` are their numbers."""
    grid = mask_grid(tuple(img_b3hw.shape[2:]), args.patch_size)
    num_patches = grid[0] * grid[1]
    counts = drop_counts(args.ratios, num_patches)
    colour = fill_colour(args.fill, img_b3hw, subject.black())
    if args.order == 'random':
        rankings = [random_ranking(args.seed, repeat, images, num_patches) for repeat in range(args.repeats)]
    else:
        ranking_bn = salient_ranking(subject.network, img_b3hw, labels_b, grid, colour)
        rankings = [ranking_bn if args.order == 'salient' else num_patches - 1 - ranking_bn]
    correct = [
        correct_when_occluded(
            subject.network, img_b3hw, labels_b, ranking_bn.to(img_b3hw.device), counts, grid, colour
        )
        for ranking_bn in rankings
    ]
    return torch.stack(correct)


def measure(source: Source, photos: Photos, args: argparse.Namespace) -> dict:
    """Top-1 in percent for each repeat and ratio."""
    subject = load_classifier(source, args.seed, len(photos.classes))
    photos.check(subject)
    correct, images = [], range(0)
    batches = photos.batches(subject, args.batch_size)
    for img_b3hw in progress(batches, source.name, total=-(-len(photos) // args.batch_size)):
        images = range(images.stop, images.stop + len(img_b3hw))
        labels_b = photos.labels[images.start : images.stop].to(img_b3hw.device)
        correct.append(correct_of_batch(subject, img_b3hw, labels_b, images, args))
    top1 = 100 * torch.cat(correct, dim=2).double().mean(dim=2)
    grid = mask_grid(tuple(img_b3hw.shape[2:]), args.patch_size)
    dropped = drop_counts(args.ratios, grid[0] * grid[1])
    return dict(
        images=len(photos),
        grid=grid,
        ratios=[count / (grid[0] * grid[1]) for count in dropped],  # not exactly those asked for
        dropped=dropped,
        top1=top1.tolist(),
        mean=top1.mean(dim=0).tolist(),
        std=top1.std(dim=0).tolist() if len(top1) > 1 else None,
    )


def run(args: argparse.Namespace) -> None:
    """Measure all networks, write the report and draw the picture.

    Args:
        args: The command line of ``tools/analysis/occlusion.py``.
    """
    drop_counts(args.ratios, 1)  # fail now, before networks are loaded
    photos = choose_photos(args.images, args.count, args.seed, labelled=True)
    settings = dict(
        analysis='occlusion',
        images=photos.digest,
        classes=photos.classes,
        ratios=list(args.ratios),
        patch_size=args.patch_size,
        fill=args.fill,
        order=args.order,
        repeats=args.repeats if args.order == 'random' else 1,
        seed=args.seed,
    )
    models = analyse(args, settings, partial(measure, photos=photos, args=args), COLUMNS)
    draw_occlusion(models, args.out / 'occlusion.png')
    print(f'drawn: {args.out / "occlusion.png"}')
