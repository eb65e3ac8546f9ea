"""What an analysis leaves in its folder: ``result.json``, ``result.csv``, and ``models/``, to go on from.

Each network's result is kept on its own, under a name that follows from everything its numbers depend on. So
an analysis that was stopped, or got another network to compare, computes what is new; and results of other
settings, images, weights or versions are never taken for those of these.
"""

import csv
import hashlib
import io
import json
import platform
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import torch

from a2mim_mm.engine.cli import write_json
from a2mim_mm.version import __version__

from .subjects import RANDOM, Source

_PACKAGES = ('torch', 'numpy', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain', 'timm')


def versions() -> dict[str, str | None]:
    """Versions of what computes, None where it is not installed, and the device."""
    found = {'a2mim_mm': __version__, 'python': platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    found['device'] = torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'
    return found


def recall(folder: Path, source: Source, settings: dict, measure: Callable[[], dict]) -> dict:
    """The result of one network: kept from an earlier run, or measured now and kept.

    Args:
        folder: Folder of the analysis.
        source: The network.
        settings: All that the numbers depend on besides, as JSON has it.
        measure: Computes the result, as JSON has it.

    Returns:
        ``name``, ``config``, ``checkpoint``, ``checkpoint_sha256``, and the result.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If a kept result cannot be read.
    """
    digest = None if source.checkpoint == RANDOM else _digest(Path(source.checkpoint))
    depends_on = dict(settings=settings, network=source.text(), checkpoint=digest, versions=versions())
    key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / 'models' / f'{key}.json'
    if path.exists():
        print(f'{source.name}: measured before, {path}')
    else:
        write_json(path, measure())
    try:
        result = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f'{path} is no JSON: remove it to measure {source.name} again') from error
    return dict(
        name=source.name,
        config=source.config,
        checkpoint=source.checkpoint,
        checkpoint_sha256=digest,
        **result,
    )


def write_report(
    folder: Path, command: str, settings: dict, models: Sequence[dict], rows: Sequence[dict]
) -> None:
    """Write ``result.json``, with everything, and ``result.csv``, a row for each point of the picture."""
    content = dict(command=command, versions=versions(), settings=settings, models=list(models))
    write_json(folder / 'result.json', content)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    draft = folder / '.result.csv.part'
    draft.write_text(text.getvalue())
    draft.replace(folder / 'result.csv')


def _digest(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint at {path}')
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
