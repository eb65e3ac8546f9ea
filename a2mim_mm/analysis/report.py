"""What an analysis leaves in its folder: ``result.json``, ``result.csv``, and ``models/`` to continue from.

The result of each network has its own file. Its name follows from everything that the numbers depend on. So
an analysis that was stopped, or got another network to compare, computes only what is new. It never reuses a
result of other settings, images, weights or versions.
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
    """Versions of the packages that compute (None where one is not installed), and the device."""
    found = {'a2mim_mm': __version__, 'python': platform.python_version()}
    found |= {package: package_version(package) for package in _PACKAGES}
    found['device'] = torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'
    return found


def describe(source: Source) -> dict[str, str | None]:
    """Where a network comes from: ``name``, ``config``, ``checkpoint``, ``checkpoint_sha256``.

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
        settings: All else that the numbers depend on, in types that JSON has.

    Raises:
        ValueError: If the config cannot be read.
    """
    depends_on = dict(settings=settings, network=source.text(), checkpoint=digest, versions=versions())
    key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]
    return folder / 'models' / f'{key}.json'


def recall(path: Path, source: Source, measure: Callable[[Source], dict]) -> dict:
    """Read the result of one network, after measuring it if no earlier run did.

    Args:
        path: Where it is kept, :func:`place_of`.
        source: The network.
        measure: Computes the result, in types that JSON has.

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
        raise InputError(f'{path} is not valid JSON: remove it to measure {source.name} again') from error
    if not isinstance(result, dict) or not result:
        raise InputError(f'{path} does not hold a result: remove it to measure {source.name} again')
    return result


def write_report(
    folder: Path, command: str, settings: dict, models: Sequence[dict], columns: dict[str, str]
) -> None:
    """Write ``result.json``, with everything, and ``result.csv``, a row for each point of the picture.

    Args:
        folder: Folder to write to.
        command: The command line.
        settings: The settings of the analysis.
        models: What :func:`describe` and :func:`recall` return for each network.
        columns: Maps a column of the table to the key of a list in each result. A value of None leaves the
            column empty.
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
