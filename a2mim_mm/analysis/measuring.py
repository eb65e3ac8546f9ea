"""What the analyses share: measure each network, keep its result, report all, show progress."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from rich.markup import escape
from rich.progress import track

from a2mim_mm.checkpoints import install_safe_loader

from .networks import Source
from .report import describe, place_of, recall, write_report

AFTER_INTERRUPT = 'run the same command to continue: it measures the interrupted network again from its start'

Item = TypeVar('Item')


def analyse(
    args: argparse.Namespace, settings: dict, measure: Callable[[Source], dict], columns: dict[str, str]
) -> list[dict]:
    """Measure all networks that no earlier run has measured, and write the report.

    Args:
        args: The command line: ``sources``, the words for each :class:`Source`; ``out``; ``command``.
        settings: All that the numbers depend on, apart from the networks, in types that JSON has.
        measure: Computes the result of a network, in types that JSON has.
        columns: Columns of the table, see :func:`write_report`.

    Returns:
        For each network, where it comes from and its result.

    Raises:
        ValueError: If a config or a checkpoint cannot be read, before the first network is measured.
        OSError: If the folder cannot be written, before the first network is measured.
    """
    install_safe_loader()
    sources = [Source(*words) for words in args.sources]
    descriptions = [describe(source) for source in sources]
    places = [
        place_of(args.out, source, description['checkpoint_sha256'], settings)
        for source, description in zip(sources, descriptions, strict=True)
    ]
    (args.out / 'models').mkdir(parents=True, exist_ok=True)
    results = []
    # TF32 keeps 10 bits, and interactions are small differences.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        for source, place in zip(sources, places, strict=True):
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
