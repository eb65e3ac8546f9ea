"""Accuracy against the share of hidden patches (Section 3.1, Figures 1 a-d and A1 a-b).

python tools/analysis/occlusion.py CONFIG CHECKPOINT [CONFIG CHECKPOINT ...] --images FOLDER --out DIR
"""

import argparse
from functools import partial

from arguments import make_parser, parse

RATIOS = tuple(tenth / 10 for tenth in range(10))
FILLS = ('black', 'zero', 'mean')
ORDERS = ('random', 'salient', 'non-salient')
COLUMNS = dict(ratio='ratios', dropped='dropped', top1_mean='mean', top1_std='std')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser('occlusion', 'Draw accuracy against the share of hidden patches.', count=None)
    parser.add_argument('--ratios', nargs='+', type=float, default=RATIOS, help='default: 0 0.1 ... 0.9')
    parser.add_argument('--patch-size', type=int, default=16, help='pixels (default: 16)')
    parser.add_argument(
        '--fill',
        choices=('black', 'zero', 'mean'),
        default='black',
        help='colour of hidden patches (default: black)',
    )
    parser.add_argument(
        '--order',
        choices=('random', 'salient', 'non-salient'),
        default='random',
        help='which patches go first (default: random)',
    )
    parser.add_argument('--repeats', type=int, default=5, help='of random masks (default: 5)')
    args = parse(parser, argv)
    if args.repeats < 1:
        parser.error(f'--repeats must be at least 1, got {args.repeats}')
    return args


if __name__ == '__main__':
    parse_args()  # --help and mistakes are answered at once: the imports below take seconds

import torch
from torch import Tensor

from a2mim_mm.analysis.figures import draw_occlusion
from a2mim_mm.analysis.networks import Source, Subject, load_classifier
from a2mim_mm.analysis.occlusion import (
    correct_when_occluded,
    drop_counts,
    random_ranking,
    salient_ranking,
)
from a2mim_mm.analysis.patches import fill_colour
from a2mim_mm.analysis.photos import Photos, choose_photos
from a2mim_mm.analysis.run import AFTER_INTERRUPT, analyse, progress
from a2mim_mm.engine.run_tool import run_tool
from a2mim_mm.models.masking import mask_grid


def correct_of_batch(
    subject: Subject, img_b3hw: Tensor, labels_b: Tensor, images: range, args: argparse.Namespace
) -> Tensor:
    """Whether each image is classified rightly, bool (repeats, ratios, b); ``images`` are their numbers."""
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
        ratios=[count / (grid[0] * grid[1]) for count in dropped],  # of few patches not those asked for
        dropped=dropped,
        top1=top1.tolist(),
        mean=top1.mean(dim=0).tolist(),
        std=top1.std(dim=0).tolist() if len(top1) > 1 else None,
    )


def main(argv: list[str] | None = None) -> None:
    """Measure, write, draw."""
    args = parse_args(argv)
    drop_counts(args.ratios, 1)  # now, not when networks are loaded
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


if __name__ == '__main__':
    run_tool(main, AFTER_INTERRUPT)
