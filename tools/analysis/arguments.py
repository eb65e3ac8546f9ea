"""The arguments that all analyses take; imports nothing that takes long."""

import argparse
import shlex
import sys
from pathlib import Path


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
        help='pairs, before the options: a config, or timm:NAME, and a checkpoint, or "random" for random '
        'weights',
    )
    parser.add_argument('--images', required=True, metavar='FOLDER', help='the images to analyse on')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='where results go')
    parser.add_argument(
        '--names',
        nargs='+',
        help='what the networks are called, one for each pair; those of one name are drawn as one curve '
        '(default: the end of the path of each checkpoint)',
    )
    usual = 'all' if count is None else count
    parser.add_argument(
        '--count', type=int, default=count, help=f'images at most, drawn at random (default: {usual})'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of all that is drawn (default: 0)')
    parser.add_argument(
        '--batch-size', type=int, default=128, help='images that a network sees at once (default: 128)'
    )
    return parser


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; adds ``sources``, name, config and checkpoint of each, and ``command``."""
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    configs, checkpoints = args.networks[0::2], args.networks[1::2]
    if len(configs) != len(checkpoints):
        parser.error(f'networks are pairs of a config and a checkpoint, got {len(args.networks)} words')
    swapped = [config for config in configs if Path(config).suffix in ('.pth', '.pt', '.safetensors')]
    if swapped:
        parser.error(f'{swapped[0]} is a checkpoint: a pair is the config first, then its checkpoint')
    names = args.names or default_names(configs, checkpoints)
    if names is None:
        parser.error('a network is named twice: say by --names which are runs of one kind')
    if len(names) != len(configs):
        parser.error(f'--names: {len(names)} names for {len(configs)} networks')
    for option in ('batch_size', 'count'):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            parser.error(f'--{option.replace("_", "-")} must be at least 1, got {getattr(args, option)}')
    if args.seed < 0:
        parser.error(f'--seed must not be negative, got {args.seed}')
    args.sources = list(zip(names, configs, checkpoints, strict=True))
    args.command = shlex.join(['python', parser.prog, *argv])
    return args


def default_names(configs: list[str], checkpoints: list[str]) -> list[str] | None:
    """The last parts of the paths of checkpoints, as many as tell them apart; None if one is there twice."""
    paths = [
        Path(config.replace(':', '/'), 'random') if checkpoint == 'random' else Path(checkpoint)
        for config, checkpoint in zip(configs, checkpoints, strict=True)
    ]
    for length in range(2, 1 + max(2, *(len(path.parts) for path in paths))):
        names = ['/'.join(path.with_suffix('').parts[-length:]) for path in paths]
        if len({*names}) == len(names):
            return names
    return None
