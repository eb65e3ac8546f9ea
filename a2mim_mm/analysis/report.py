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
from pathlib import Path

import torch

from a2mim_mm.errors import InputError
from a2mim_mm.files import package_version, sha256_of, write_json, write_whole
from a2mim_mm.version import __version__

from .networks import RANDOM, Source

_PACKAGES = (
    'torch',
    'torchvision',
    'numpy',
    'opencv-python',
    'pillow',
    'simplejpeg',
    'onedl-mmengine',
    'onedl-mmcv',
    'onedl-mmpretrain',
    'timm',
)


def versions() -> dict[str, str | None]:
    """Versions of what computes, None where it is not installed, and the device."""
    found = {'a2mim_mm': __version__, 'python': platform.python_version()}
    found |= {package: package_version(package) for package in _PACKAGES}
    found['device'] = torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'
    return found


def describe(source: Source) -> dict[str, str | None]:
    """Where a network comes from: ``name``, ``config``, ``checkpoint``, and the SHA-256 of the latter's file.

    Raises:
        FileNotFoundError: If there is no checkpoint.
    """
    path, digest = Path(source.checkpoint), None
    if source.checkpoint != RANDOM:
        if not path.is_file():
            raise FileNotFoundError(f'there is no checkpoint at {path}')
        digest = sha256_of(path)
    return dict(vars(source), checkpoint_sha256=digest)


def place_of(folder: Path, source: Source, digest: str | None, settings: dict) -> Path:
    """Where the result of a network is kept.

    Args:
        folder: Folder of the analysis.
        source: The network.
        digest: The ``checkpoint_sha256`` of :func:`describe`.
        settings: All that the numbers depend on besides the network and versions, as JSON has it.

    Raises:
        ValueError: If the config cannot be read.
    """
    depends_on = dict(settings=settings, network=source.text(), checkpoint=digest, versions=versions())
    key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]
    return folder / 'models' / f'{key}.json'


def recall(path: Path, source: Source, measure: Callable[[Source], dict]) -> dict:
    """The result of one network: kept from an earlier run, or measured now and kept.

    Args:
        path: Where it is kept, :func:`place_of`.
        source: The network.
        measure: Computes the result, as JSON has it.

    Returns:
        The result.

    Raises:
        ValueError: If a kept result cannot be read.
    """
    if path.exists():
        print(f'{source.name}: measured before, {path}')
    else:
        print(f'{source.name}: {source.config} {source.checkpoint}', flush=True)
        write_json(path, measure(source))
    try:
        result = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f'{path} is no JSON: remove it to measure {source.name} again') from error
    if not isinstance(result, dict) or not result:
        raise InputError(f'{path} holds no result: remove it to measure {source.name} again')
    return result


def write_report(
    folder: Path, command: str, settings: dict, models: Sequence[dict], columns: dict[str, str]
) -> None:
    """Write ``result.json``, with everything, and ``result.csv``, a row for each point of the picture.

    Args:
        folder: Where to.
        command: The command line.
        settings: What was set.
        models: What :func:`describe` and :func:`recall` give of each network.
        columns: Column of the table to the name of a list in the results; None in place of a list leaves
            the column empty.
    """
    content = dict(command=command, versions=versions(), settings=settings, models=list(models))
    write_json(folder / 'result.json', content)
    text = io.StringIO()
    writer = csv.DictWriter(text, ['name', 'checkpoint', *columns], lineterminator='\n')
    writer.writeheader()
    for model in models:
        lists = {column: model[key] for column, key in columns.items()}
        for index in range(len(next(iter(lists.values())))):
            values = {column: values and values[index] for column, values in lists.items()}
            writer.writerow(dict(name=model['name'], checkpoint=model['checkpoint']) | values)
    with write_whole(folder / 'result.csv') as draft:
        draft.write_text(text.getvalue())
