"""What the tools of the analyses share: which networks, which images, where to, how far."""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
from rich.markup import escape
from rich.progress import track

from a2mim_mm.engine import install_safe_loader

from .report import describe, place_of, recall, write_report
from .subjects import RANDOM, Source

AFTER_INTERRUPT = 'the same command goes on with the network that was being measured, from its beginning'

Item = TypeVar('Item')


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
    """Read the command line; adds ``sources``, a list of :class:`Source`, and ``command``, as typed."""
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    configs, checkpoints = args.networks[0::2], args.networks[1::2]
    if len(configs) != len(checkpoints):
        parser.error(f'networks are pairs of a config and a checkpoint, got {len(args.networks)} words')
    swapped = [config for config in configs if Path(config).suffix in ('.pth', '.pt', '.safetensors')]
    if swapped:
        parser.error(f'{swapped[0]} is a checkpoint: a pair is the config first, then its checkpoint')
    names = args.names or default_names(configs, checkpoints)
    if len(names) != len(configs):
        parser.error(f'--names: {len(names)} names for {len(configs)} networks')
    for option in ('batch_size', 'count'):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            parser.error(f'--{option.replace("_", "-")} must be at least 1, got {getattr(args, option)}')
    if args.seed < 0:
        parser.error(f'--seed must not be negative, got {args.seed}')
    args.sources = [Source(*words) for words in zip(names, configs, checkpoints, strict=True)]
    args.command = shlex.join(['python', parser.prog, *argv])
    return args


def default_names(configs: list[str], checkpoints: list[str]) -> list[str]:
    """The last parts of the paths of checkpoints, as many as tell them apart: networks of one name are runs.

    Raises:
        ValueError: If a network is there twice.
    """
    paths = [
        Path(config.replace(':', '/'), RANDOM) if checkpoint == RANDOM else Path(checkpoint)
        for config, checkpoint in zip(configs, checkpoints, strict=True)
    ]
    for length in range(2, 1 + max(2, *(len(path.parts) for path in paths))):
        names = ['/'.join(path.with_suffix('').parts[-length:]) for path in paths]
        if len({*names}) == len(names):
            return names
    raise ValueError('a network is named twice: say by --names which are runs of one kind')


def analyse(
    args: argparse.Namespace, settings: dict, measure: Callable[[Source], dict], columns: dict[str, str]
) -> list[dict]:
    """Measure all networks, unless they were before, and write the report.

    Args:
        args: What :func:`parse` gives.
        settings: All that the numbers depend on besides the networks, as JSON has it.
        measure: Computes the result of a network, as JSON has it.
        columns: Columns of the table, see :func:`write_report`.

    Returns:
        For each network, where it comes from and its result.

    Raises:
        ValueError: If a config or a checkpoint cannot be read, before the first network is measured.
        OSError: If the folder cannot be written, likewise.
    """
    install_safe_loader()
    descriptions = [describe(source) for source in args.sources]
    places = [
        place_of(args.out, source, description['checkpoint_sha256'], settings)
        for source, description in zip(args.sources, descriptions, strict=True)
    ]
    (args.out / 'models').mkdir(parents=True, exist_ok=True)
    results = []
    # TF32 keeps 10 bits, and interactions are small differences.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        for source, place in zip(args.sources, places, strict=True):
            results.append(recall(place, source, measure))
    models = [description | result for description, result in zip(descriptions, results, strict=True)]
    write_report(args.out, args.command, settings, models, columns)
    return models


def progress(items: Iterable[Item], title: str, total: int) -> Iterator[Item]:
    """The items, with a bar on a terminal and ten lines in a log file."""
    if sys.stdout.isatty():
        yield from track(items, description=escape(title), total=total)
        return
    for number, item in enumerate(items, start=1):
        yield item
        if 10 * number // total > 10 * (number - 1) // total:
            print(f'{title}: {number} of {total}', flush=True)
