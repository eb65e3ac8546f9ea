"""What the tools of the analyses share: which networks, which images, where to."""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from a2mim_mm.engine import install_safe_loader
from a2mim_mm.engine.cli import checkpoint_name

from .report import recall
from .subjects import RANDOM, Source

AFTER_INTERRUPT = 'the same command measures the networks that are missing'


def make_parser(tool: str, description: str, count: int | None) -> argparse.ArgumentParser:
    """A parser with the arguments that all analyses take.

    Args:
        tool: Name of its file, without ending.
        description: What it does.
        count: Number of images by default; None for all.
    """
    parser = argparse.ArgumentParser(prog=f'tools/analysis/{tool}.py', description=description)
    parser.add_argument(
        'networks',
        nargs='+',
        metavar='CONFIG CHECKPOINT',
        help='pairs; a config, or timm:NAME, and a checkpoint, or "random" for random weights',
    )
    parser.add_argument('--images', required=True, metavar='FOLDER', help='the images to analyse on')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='where results go')
    parser.add_argument(
        '--names',
        nargs='+',
        help='what the networks are called, one for each pair; those of one name are drawn as one curve '
        '(default: folder and name of the checkpoint)',
    )
    usual = 'all' if count is None else count
    parser.add_argument(
        '--count', type=int, default=count, help=f'images at most, drawn at random (default: {usual})'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of all that is drawn (default: 0)')
    parser.add_argument('--batch-size', type=int, default=128, help='images at once (default: 128)')
    parser.add_argument('--workers', type=int, default=0, help='processes that read images (default: 0)')
    return parser


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; adds ``sources``, a list of :class:`Source`, and ``command``, as typed."""
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    configs, checkpoints = args.networks[0::2], args.networks[1::2]
    if len(configs) != len(checkpoints):
        parser.error(f'networks are pairs of a config and a checkpoint, got {len(args.networks)} words')
    names = args.names or [
        f'{Path(config).stem} {RANDOM}' if checkpoint == RANDOM else checkpoint_name(checkpoint)
        for config, checkpoint in zip(configs, checkpoints, strict=True)
    ]
    if len(names) != len(configs):
        parser.error(f'--names: {len(names)} names for {len(configs)} networks')
    for option in ('batch_size', 'count'):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            parser.error(f'--{option.replace("_", "-")} must be at least 1, got {getattr(args, option)}')
    if args.seed < 0 or args.workers < 0:
        parser.error('--seed and --workers must not be negative')
    args.sources = [Source(*words) for words in zip(names, configs, checkpoints, strict=True)]
    args.command = shlex.join(['python', parser.prog, *argv])
    return args


def analyse(args: argparse.Namespace, settings: dict, measure: Callable[[Source], dict]) -> list[dict]:
    """The results of all networks, each measured unless it was before; see :func:`recall`."""
    install_safe_loader()
    return [
        recall(args.out, source, settings, lambda source=source: measure(source)) for source in args.sources
    ]
