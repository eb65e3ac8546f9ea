"""Strength of interactions between patches against their order (Section 3.2, Figures 1 e-h and A1 c-d).

python tools/analysis/interaction.py CONFIG CHECKPOINT [CONFIG CHECKPOINT ...] --images FOLDER --out DIR
"""

import argparse
import dataclasses
from functools import partial

from arguments import make_parser, parse

FILLS = ('black', 'zero', 'mean')
COLUMNS = dict(
    order='orders',
    order_share='order_shares',
    J='J',
    J_low='J_low',
    J_high='J_high',
    strength='strength',
    noise='noise',
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        'interaction', 'Draw the strength of interactions between patches by order.', count=50
    )
    parser.add_argument('--grid', type=int, default=14, help='patches along a side (default: 14)')
    parser.add_argument('--pairs', type=int, default=200, help='pairs an image (default: 200)')
    parser.add_argument(
        '--radius',
        type=int,
        default=2,
        help='patches of a pair are at most so many rows and columns apart; 0: any pair (default: 2)',
    )
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument('--contexts', type=int, help='contexts for a pair and an order (default: 100)')
    extent.add_argument(
        '--budget', type=int, help='forward passes a network; as many contexts as that allows'
    )
    parser.add_argument(
        '--orders',
        nargs='+',
        type=float,
        default=(0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1),
        help='shares of n - 2 (default: 0 0.05 0.1 0.2 ... 0.9 0.95 1)',
    )
    parser.add_argument(
        '--fill',
        choices=('black', 'zero', 'mean'),
        default='zero',
        help='colour of hidden patches, the baseline (default: zero)',
    )
    args = parse(parser, argv)
    if args.contexts is None and args.budget is None:
        args.contexts = 100
    return args


if __name__ == '__main__':
    parse_args()  # --help and mistakes are answered at once: the imports below take seconds

import numpy as np
import torch
from torch import Tensor

from a2mim_mm.analysis.figures import draw_interaction
from a2mim_mm.analysis.interaction import (
    Plan,
    Score,
    image_interactions,
    make_plan,
    relative_strength,
)
from a2mim_mm.analysis.networks import Source, Subject, load_classifier
from a2mim_mm.analysis.patches import fill_colour, hide_patches, log_odds
from a2mim_mm.analysis.photos import Photos, choose_photos
from a2mim_mm.analysis.run import AFTER_INTERRUPT, analyse, progress
from a2mim_mm.engine.run_tool import run_tool


def score_of(subject: Subject, img_13hw: Tensor, label: int, plan: Plan, fill: str) -> Score:
    """f: kept patches, bool (k, n), to the log-odds of the true class."""
    colour = fill_colour(fill, img_13hw, subject.black())

    @torch.no_grad()
    def score(kept_kn: Tensor) -> Tensor:
        hidden_kn = ~kept_kn.to(img_13hw.device)
        logits_kc = subject.network(hide_patches(img_13hw, hidden_kn, plan.grid, colour))
        return log_odds(logits_kc, logits_kc.new_full((len(logits_kc),), label, dtype=torch.long))

    return score


def measure(source: Source, photos: Photos, plan: Plan, args: argparse.Namespace) -> dict:
    """J^(m), and the strength of each image at each order."""
    subject = load_classifier(source, args.seed, len(photos.classes))
    photos.check(subject)
    found = []
    images = enumerate(photos.batches(subject, batch_size=1))
    for image, img_13hw in progress(images, source.name, total=len(photos)):
        score = score_of(subject, img_13hw, photos.labels[image].item(), plan, args.fill)
        found.append(image_interactions(score, plan, args.seed, image, args.batch_size))
    strength_xo = np.stack([interactions.strength_o for interactions in found])
    relative = relative_strength(strength_xo, args.seed)
    several = len(found) > 1  # one image tells nothing of others
    return dict(
        images=len(photos),
        orders=plan.orders,
        order_shares=[order / (args.grid**2 - 2) for order in plan.orders],
        contexts=plan.contexts,
        J=relative.mean.tolist(),
        J_low=relative.low.tolist() if several else None,
        J_high=relative.high.tolist() if several else None,
        strength=strength_xo.mean(axis=0).tolist(),
        noise=np.mean([interactions.noise_o for interactions in found], axis=0).tolist(),
        strength_of_images=strength_xo.tolist(),
    )


def main(argv: list[str] | None = None) -> None:
    """Say how much it takes, measure, write, draw."""
    args = parse_args(argv)
    photos = choose_photos(args.images, args.count, args.seed, labelled=True)
    grid, radius = (args.grid, args.grid), args.radius or None
    plan = make_plan(grid, len(photos), args.pairs, args.contexts, args.budget, args.orders, radius)
    print(plan, flush=True)
    settings = dict(
        analysis='interaction',
        images=photos.digest,
        classes=photos.classes,
        plan=dataclasses.asdict(plan),
        passes=plan.passes,
        fill=args.fill,
        seed=args.seed,
    )
    models = analyse(args, settings, partial(measure, photos=photos, plan=plan, args=args), COLUMNS)
    for model in models:
        share, order = max(zip(np.divide(model['noise'], model['strength']), model['orders'], strict=True))
        print(f'{model["name"]}: noise is at most {share:.0%} of the strength, at order {order}')
    draw_interaction(models, args.out / 'interaction.png')
    print(f'drawn: {args.out / "interaction.png"}')


if __name__ == '__main__':
    run_tool(main, AFTER_INTERRUPT)
