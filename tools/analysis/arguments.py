"""The command lines of the analyses. Nothing here takes long to import, so --help is answered at once."""

import argparse
import shlex
import sys
from pathlib import Path

FILLS = ('black', 'zero', 'mean')
ORDERS = ('random', 'salient', 'non-salient')
ORDER_RATIOS = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1)


def parse_occlusion(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line of ``occlusion.py``."""
    parser = _parser('occlusion', 'Draw accuracy against the share of hidden patches.', count=None)
    parser.add_argument(
        '--ratios',
        nargs='+',
        type=float,
        default=[tenth / 10 for tenth in range(10)],
        help='default: 0 0.1 ... 0.9',
    )
    parser.add_argument('--patch-size', type=int, default=16, help='pixels (default: 16)')
    parser.add_argument(
        '--fill',
        choices=FILLS,
        default='black',
        help='colour of hidden patches (default: black)',
    )
    parser.add_argument(
        '--order',
        choices=ORDERS,
        default='random',
        help='which patches go first (default: random)',
    )
    parser.add_argument('--repeats', type=int, default=5, help='of random masks (default: 5)')
    args = _parse(parser, argv)
    if args.repeats < 1:
        parser.error(f'--repeats must be at least 1, got {args.repeats}')
    return args


def parse_interaction(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line of ``interaction.py``."""
    parser = _parser('interaction', 'Draw the strength of interactions between patches by order.', count=50)
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
        default=ORDER_RATIOS,
        help='shares of n - 2 (default: 0 0.05 0.1 0.2 ... 0.9 0.95 1)',
    )
    parser.add_argument(
        '--fill',
        choices=FILLS,
        default='zero',
        help='colour of hidden patches, the baseline (default: zero)',
    )
    args = _parse(parser, argv)
    if args.contexts is None and args.budget is None:
        args.contexts = 100
    return args


def parse_fourier(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line of ``fourier.py``."""
    parser = _parser('fourier', 'Draw high frequencies and variance of feature maps by depth.', count=256)
    parser.add_argument(
        '--sites',
        nargs='+',
        help='sub-modules whose outputs are analysed, of all networks (default: all blocks of each)',
    )
    args = _parse(parser, argv)
    if args.sites and len({*args.sites}) < len(args.sites):
        parser.error(f'--sites must differ, got {" ".join(args.sites)}')
    return args


def _parser(tool: str, description: str, count: int | None) -> argparse.ArgumentParser:
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


def _parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; adds ``sources``, name, config and checkpoint of each, and ``command``."""
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    configs, checkpoints = args.networks[0::2], args.networks[1::2]
    if len(configs) != len(checkpoints):
        parser.error(f'networks are pairs of a config and a checkpoint, got {len(args.networks)} words')
    swapped = [config for config in configs if Path(config).suffix in ('.pth', '.pt', '.safetensors')]
    if swapped:
        parser.error(f'{swapped[0]} is a checkpoint: a pair is the config first, then its checkpoint')
    names = args.names or _default_names(configs, checkpoints)
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


def _default_names(configs: list[str], checkpoints: list[str]) -> list[str] | None:
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
