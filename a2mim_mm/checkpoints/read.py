"""Reads checkpoints without ever running code that a file carries.

A ``.pth`` file is a pickle, and a pickle is a program. Everything here loads with ``weights_only=True`` and
never falls back to less: a name that the restricted unpickler does not know is refused. mmengine falls back
to ``weights_only=False`` by itself, and its own allow-list holds the bare ``getattr``, from which a pickle
can reach any function; :func:`install_safe_loader` puts this module in its place.
"""

import io
import pickle
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlparse

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import torch
from mmengine.runner import CheckpointLoader

from .errors import CheckpointError
from .safe_pickle import ArrayUnpickler, RefusedError, allowed_globals

MapLocation = str | torch.device | Callable | None


def load_checkpoint_file(path: str | Path, map_location: MapLocation = 'cpu') -> dict:
    """Read a checkpoint from disk.

    Args:
        path: A ``.safetensors`` file, or any file that ``torch.save`` wrote.
        map_location: Where tensors go, as in :func:`torch.load`.

    Returns:
        What the file holds. For a ``.safetensors`` file that is the state dict, or
        ``dict(state_dict=..., meta=dict(cfg=...))`` if its metadata has the config of its network.

    Raises:
        CheckpointError: If the file is missing, empty, damaged, not a checkpoint, or holds anything but
            tensors, plain Python values, numpy arrays and mmengine's ``HistoryBuffer``.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise CheckpointError(f'{path} is a folder, not a checkpoint')
    if not path.is_file():
        raise CheckpointError(f'there is no checkpoint at {path}')
    if path.stat().st_size == 0:
        raise CheckpointError(
            f'the checkpoint {path} is empty, because writing it was interrupted: use an earlier one'
        )
    if path.suffix == '.safetensors':
        return _read_safetensors(path, map_location)
    with path.open('rb') as file:
        return _read_torch(file, str(path), map_location)


def install_safe_loader() -> None:
    """Make mmengine load every checkpoint through this module.

    This covers ``Runner`` (``load_from``, ``resume``), ``init_cfg`` of type ``Pretrained`` and
    ``load_checkpoint``, for local files, s3 and http(s). Loaders that others registered with mmengine stay.
    """
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    mmengine_checkpoint._safe_torch_load = _load_for_mmengine
    mmengine_checkpoint.load_url = _load_url


def load_from_local(filename: str, map_location: MapLocation = None) -> dict:
    """:func:`load_checkpoint_file` as mmengine's loader of local paths."""
    return _load_for_mmengine(filename, map_location)


def _load_for_mmengine(file: str | Path | io.IOBase, map_location: MapLocation = None, **_: object) -> dict:
    """What ``mmengine.runner.checkpoint`` calls. Here ``weights_only`` is always true."""
    if isinstance(file, (str, Path)):
        checkpoint = load_checkpoint_file(file, map_location)
    else:
        checkpoint = _read_torch(file, 'the downloaded checkpoint', map_location)
    meta = checkpoint.get('meta')
    if isinstance(meta, dict):
        # Runner.resume would run this text as a Python config; mmengine itself writes `cfg`.
        meta.pop('config', None)
    return checkpoint


def _load_url(
    url: str, model_dir: str | None = None, map_location: MapLocation = None, progress: bool = True
) -> dict:
    """Download a checkpoint into torch's cache, once, and read it."""
    path = Path(model_dir or Path(torch.hub.get_dir()) / 'checkpoints') / Path(urlparse(url).path).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=progress)
    return _load_for_mmengine(path, map_location)


def _read_safetensors(path: Path, map_location: MapLocation) -> dict:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    device = 'cpu' if map_location is None or callable(map_location) else str(map_location)
    try:
        weights = load_file(path, device=device)
        with safe_open(path, 'pt') as file:
            cfg = (file.metadata() or {}).get('cfg')
        return weights if cfg is None else dict(state_dict=weights, meta=dict(cfg=cfg))
    except SafetensorError as error:
        raise CheckpointError(f'{path} is damaged or not a safetensors file: {error}') from error


def _read_torch(file: io.IOBase, name: str, map_location: MapLocation) -> dict:
    start = file.read(64)
    file.seek(0)
    if not start.startswith((b'PK', b'\x80')):  # a zip archive, which torch.save writes, or a bare pickle
        raise CheckpointError(f'{name} is not a checkpoint: it begins with {start[:16]!r}')
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    _check_archive(file, size, name)
    try:
        with torch.serialization.safe_globals(allowed_globals()):
            checkpoint = torch.load(file, map_location=map_location, weights_only=True)
    except UnpicklingError as error:
        raise CheckpointError(_refusal(name, str(error), _unknown_globals(file))) from error
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # anything can happen to an unpickler that reads arbitrary bytes
        reason = str(error).partition('\n')[0]
        raise CheckpointError(
            f'{name} is damaged or cut short ({reason}): use an earlier checkpoint'
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f'{name} holds a {type(checkpoint).__name__}, not a dict of weights')
    check_sizes(checkpoint, size, name)
    return checkpoint


def _check_archive(file: io.IOBase, size: int, name: str) -> None:
    """Refuse an archive that would grow while it is read: torch.save does not compress."""
    if file.read(2) == b'PK':
        file.seek(0)
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise CheckpointError(
                f'{name} is damaged or cut short ({error}): use an earlier checkpoint'
            ) from error
        packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
        unpacked = sum(entry.file_size for entry in entries)
        if packed or unpacked > size:
            raise CheckpointError(
                f'{name} is refused: torch.save does not compress, but {len(packed)} parts of this file are '
                f'compressed, and its {size:,} bytes would unpack to {unpacked:,}'
            )
    file.seek(0)


def check_sizes(content: object, size: int, name: str) -> None:
    """Refuse arrays that are larger than their file, which are views that repeat a few numbers.

    Raises:
        CheckpointError: If there is one. Names the shape.
    """
    seen, waiting = set(), [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor) and value.layout is torch.strided:
            too_large = value.numel() * value.element_size() > size
        else:
            too_large = isinstance(value, np.ndarray) and value.nbytes > size
        if too_large:
            raise CheckpointError(
                f'{name} is refused: an array of shape {tuple(value.shape)} is larger than the file of '
                f'{size:,} bytes'
            )
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value


def _unknown_globals(file: io.IOBase) -> list[str]:
    """All names that a checkpoint's pickle calls and that are not allowed, found without running it."""
    file.seek(0)
    try:
        with torch.serialization.safe_globals(allowed_globals()):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # the file is damaged, or of an older format
        return []


def _refusal(name: str, message: str, unknown: Sequence[str]) -> str:
    wanted = re.search(r'GLOBAL (\S+)', message) or re.search(r'(?:for|got) (<.*>)', message)
    if wanted is None:
        return f'{name} is damaged: its pickle cannot be read'
    names = dict.fromkeys([wanted.group(1), *unknown])
    return (
        f'{name} is refused: reading it would call {", ".join(names)}, and a checkpoint may hold only '
        'tensors, plain Python values, numpy arrays and mmengine histories. If you trust the file, write its '
        'encoder to a new one: python tools/convert_checkpoint.py OLD NEW --to mmpretrain --trust'
    )


def read_array_pickle(path: Path) -> dict:
    """Read a pickle that holds numpy arrays and plain Python values.

    Raises:
        CheckpointError: If it holds anything else, is damaged, or is not a dict.
    """
    try:
        with path.open('rb') as file:
            content = ArrayUnpickler(file, encoding='latin1').load()
    except (RefusedError, pickle.UnpicklingError) as error:
        if isinstance(error, pickle.UnpicklingError) and not str(error).startswith('GLOBAL '):
            raise CheckpointError(f'{path} is damaged or not a pickle: {error}') from error
        raise CheckpointError(
            f'{path} is refused: {error}, and a raw pickle may hold only numpy arrays and plain Python values'
        ) from error
    except Exception as error:  # anything can happen to an unpickler that reads arbitrary bytes
        raise CheckpointError(
            f'{path} is damaged or not a pickle: {type(error).__name__}: {error}'
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f'{path} holds a {type(content).__name__}, not a dict of weights')
    check_sizes(content, path.stat().st_size, str(path))
    return content
