"""High frequencies and variance of feature maps against depth (Section 3.3, Figure 3).

python tools/analysis/fourier.py CONFIG CHECKPOINT [CONFIG CHECKPOINT ...] --images FOLDER --out DIR
"""

import argparse
from functools import partial

from arguments import make_parser, parse

COLUMNS = dict(
    site='sites',
    depth='depth',
    shape='shapes',
    log_amplitude='log_amplitude',
    log_amplitude_error='log_amplitude_error',
    variance='variance',
    variance_error='variance_error',
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser('fourier', 'Draw high frequencies and variance of feature maps by depth.', count=256)
    parser.add_argument(
        '--sites',
        nargs='+',
        help='sub-modules whose outputs are analysed, of all networks (default: all blocks of each)',
    )
    args = parse(parser, argv)
    if args.sites and len({*args.sites}) < len(args.sites):
        parser.error(f'--sites must differ, got {" ".join(args.sites)}')
    return args


if __name__ == '__main__':
    parse_args()  # --help and mistakes are answered at once: the imports below take seconds

from torch import Tensor

from a2mim_mm.analysis.figures import draw_fourier
from a2mim_mm.analysis.fourier import MapStatistics, diagonal, map_statistics
from a2mim_mm.analysis.networks import Source, load_encoder
from a2mim_mm.analysis.photos import Photos, choose_photos
from a2mim_mm.analysis.run import AFTER_INTERRUPT, analyse, progress
from a2mim_mm.analysis.sites import find_sites
from a2mim_mm.engine.run_tool import run_tool


def measure(source: Source, photos: Photos, args: argparse.Namespace) -> dict:
    """Log amplitude of the highest frequency, and variance, at each site; mean and standard error."""
    subject = load_encoder(source, args.seed)
    sites = args.sites
    if sites is None:
        sites = find_sites(subject.network, next(photos.batches(subject, batch_size=1)))
        print(f'{source.name}: maps of {len(sites)} blocks, {sites[0]} to {sites[-1]}')
    batches = photos.batches(subject, args.batch_size)
    batches = progress(batches, source.name, total=-(-len(photos) // args.batch_size))
    statistics = list(map_statistics(subject.network, sites, batches).values())
    highest = [site.relative_bf[:, -1] for site in statistics]
    variance = [site.variance_b for site in statistics]
    several = len(photos) > 1
    return dict(
        images=len(photos),
        sites=sites,
        depth=[index / max(1, len(sites) - 1) for index in range(len(sites))],
        shapes=[site.shape for site in statistics],
        log_amplitude=[mean(value_b) for value_b in highest],
        log_amplitude_error=[standard_error(value_b) for value_b in highest] if several else None,
        variance=[mean(value_b) for value_b in variance],
        variance_error=[standard_error(value_b) for value_b in variance] if several else None,
        spectrum=[spectrum(site) for site in statistics],
    )


def spectrum(site: MapStatistics) -> dict:
    """Log amplitude along the diagonal, relative to frequency 0 (Figure 2a of Park and Kim)."""
    _, _, frequencies = diagonal(*site.shape[1:])
    return dict(frequency=frequencies.tolist(), log_amplitude=site.relative_bf.mean(dim=0).tolist())


def mean(value_b: Tensor) -> float:
    """Mean over images."""
    return value_b.mean().item()


def standard_error(value_b: Tensor) -> float:
    """Standard error of the mean over images."""
    return value_b.std().item() / len(value_b) ** 0.5


def main(argv: list[str] | None = None) -> None:
    """Measure, write, draw."""
    args = parse_args(argv)
    photos = choose_photos(args.images, args.count, args.seed, labelled=False)
    settings = dict(analysis='fourier', images=photos.digest, sites=args.sites, seed=args.seed)
    models = analyse(args, settings, partial(measure, photos=photos, args=args), COLUMNS)
    draw_fourier(models, args.out / 'fourier.png')
    print(f'drawn: {args.out / "fourier.png"}')


if __name__ == '__main__':
    run_tool(main, AFTER_INTERRUPT)
