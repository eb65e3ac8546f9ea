"""``a2mim probe``: how well frozen features tell classes apart."""

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='a2mim probe',
        description='Classify test images by frozen features: by nearest neighbours and by a linear '
        'classifier. Images are cropped at the centre. There is no augmentation.',
    )
    parser.add_argument('checkpoint', help='folder of a training, or a checkpoint')
    for name in ('train', 'test'):
        parser.add_argument(
            f'--{name}', required=True, type=Path, help='folder with a folder of images for each class'
        )
    parser.add_argument('--k', type=int, default=20, help='number of neighbours (default: 20)')
    parser.add_argument('--out', type=Path, metavar='METRICS.json', help='write the result to a file as well')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Probe."""
    args = parse_args(argv)  # mistakes are answered at once: the imports below take seconds
    from a2mim_mm.analysis.probe import probe
    from a2mim_mm.engine.run_tool import run_tool

    from .tool import checkpoint_of

    def run() -> None:
        probe(checkpoint_of(args.checkpoint), args.train, args.test, args.k, args.out)

    run_tool(run, after_interrupt='nothing was written')
