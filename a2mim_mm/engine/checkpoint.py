"""Reading checkpoints without ever running code that a file carries.

A ``.pth`` file is a pickle, and a pickle is a program. Everything here loads
with ``weights_only=True`` and nothing falls back to less: what the restricted
unpickler does not know is refused by name. mmengine falls back to
``weights_only=False`` by itself, and its own allow-list holds the bare
``getattr``, from which any function can be reached;
:func:`install_safe_loader` puts this module in its place.
"""

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple
from urllib.parse import urlparse

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner

MapLocation = str | torch.device | Callable | None

# What mmengine's full checkpoints hold beside tensors, in files of numpy 1 and 2.
_NUMPY_MODULES = ('numpy._core.multiarray', 'numpy.core.multiarray')
_STATISTICS = frozenset({'min', 'max', 'mean', 'current'})
_NAMES_SHOWN = 5
_WRAPPERS = re.compile(r'^((module|_orig_mod)\.)+|\b_orig_mod\.')


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, refused, or of another model."""


def load_checkpoint_file(path: str | Path, map_location: MapLocation = 'cpu') -> dict:
    """Read a checkpoint from disk.

    Args:
        path: A ``.safetensors`` file, or any file that ``torch.save`` wrote.
        map_location: Where tensors go, as in :func:`torch.load`.

    Returns:
        What the file holds; of a ``.safetensors`` file the state dict, or where it has the config of its
        network in its metadata, ``dict(state_dict=..., meta=dict(cfg=...))``.

    Raises:
        CheckpointError: If the file is missing, empty, damaged, no checkpoint
            at all, or holds anything but tensors, plain Python values, numpy
            arrays and mmengine's ``HistoryBuffer``.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise CheckpointError(f'{path} is a folder, not a checkpoint file')
    if not path.is_file():
        raise CheckpointError(f'there is no checkpoint at {path}')
    if path.stat().st_size == 0:
        raise CheckpointError(
            f'the checkpoint {path} is empty: writing it was interrupted, use an earlier one'
        )
    if path.suffix == '.safetensors':
        return _read_safetensors(path, map_location)
    with path.open('rb') as file:
        return _read_torch(file, str(path), map_location)


def install_safe_loader() -> None:
    """Make mmengine load every checkpoint through this module.

    Covers ``Runner`` (``load_from``, ``resume``), ``init_cfg`` of type
    ``Pretrained`` and ``load_checkpoint``, for local files, s3 and http(s).
    Loaders that others registered with mmengine keep their own ways.
    """
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    mmengine_checkpoint._safe_torch_load = _load_for_mmengine
    mmengine_checkpoint.load_url = _load_url


def load_from_local(filename: str, map_location: MapLocation = None) -> dict:
    """:func:`load_checkpoint_file` as mmengine's loader of local paths."""
    return _load_for_mmengine(filename, map_location)


class StrictLoadHook(Hook):
    """Refuses a checkpoint that does not fit the model.

    mmengine loads what matches and logs the rest as a warning, so a run goes
    on from weights that are half random.

    Args:
        path: Where the checkpoint comes from, for the message.
        resume: Whether training continues from it, which needs more than weights.
        remedy: What to do instead with a checkpoint that does not fit, for the message.
    """

    priority = 'VERY_HIGH'  # before EMAHook exchanges the weights

    def __init__(self, path: str, resume: bool, remedy: str = '') -> None:
        self.path = path
        self.resume = resume
        self.remedy = remedy

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the checkpoint before anything is taken from it.

        Raises:
            CheckpointError: If it does not fit.
        """
        absent = [key for key in ('meta', 'message_hub', 'optimizer') if key not in checkpoint]
        if self.resume and absent:
            raise CheckpointError(
                f'{self.path} has no {", ".join(absent)}: --resume continues from a checkpoint that '
                f'training wrote. To start a new training from the backbone in it: --pretrained {self.path}'
            )
        if 'state_dict' not in checkpoint:  # plain weights; EMAHook, which comes later, asks for the key
            weights = dict(checkpoint)
            checkpoint.clear()
            checkpoint['state_dict'] = weights
        try:
            load_strictly(unwrap(runner.model), checkpoint['state_dict'], self.path)
        except CheckpointError as error:
            raise CheckpointError(f'{error}{self.remedy}') from error
        if self.resume:
            self._compare_lr(runner, checkpoint['optimizer'])

    def _compare_lr(self, runner: Runner, optimizer_state: dict) -> None:
        """Say so if the checkpoint's learning rate, which resuming restores, is not the configured one."""
        kept = _initial_lrs(optimizer_state.get('param_groups', []))
        configured = _initial_lrs(runner.optim_wrapper.optimizer.param_groups) if kept else []
        if not np.allclose(kept, configured, rtol=1e-6, atol=0):
            runner.logger.warning(
                f'Resuming keeps the lr and the schedule of {self.path}, initial lr {max(kept):.3e}. '
                f'Config and batch now ask for {max(configured):.3e}, which only a new training would use'
            )


def load_strictly(model: torch.nn.Module, state_dict: dict, source: str) -> None:
    """Load weights of which none may be missing, left over or of another shape.

    Args:
        model: The model to fill.
        state_dict: Names and tensors; what wrappers put into names is dropped.
        source: Where they come from, for the message.

    Raises:
        CheckpointError: If names or shapes differ, or numbers are not finite; names the first few.
    """
    weights = plain_names(state_dict)
    check_finite(weights, source)
    misfit = load_what_fits(model, weights)
    groups = {
        'missing in the file': misfit.missing,
        'unknown to the model': misfit.unexpected,
        'of another shape': misfit.misshapen,
    }
    found = [f'{len(names)} {title} ({first_names(names)})' for title, names in groups.items() if names]
    if found:
        raise CheckpointError(
            f'{source} is the checkpoint of another model than this {type(model).__name__}: '
            + '; '.join(found)
        )


def plain_names(state_dict: dict) -> dict:
    """A state dict without what data parallel training and ``torch.compile`` put into names.

    Raises:
        CheckpointError: If a name is there with and without it.
    """
    plain = {}
    for key, value in state_dict.items():
        name = _WRAPPERS.sub('', key) if isinstance(key, str) else key
        if name in plain:
            raise CheckpointError(
                f'the checkpoint holds {name} twice, as {key} and without what wrappers add'
            )
        plain[name] = value
    return plain


def check_finite(weights: dict, source: str) -> None:
    """Refuse weights with NaN or infinite numbers.

    Raises:
        CheckpointError: Names the tensors.
    """
    damaged = [
        name
        for name, value in weights.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if damaged:
        raise CheckpointError(f'{source} holds numbers that are not finite: {first_names(damaged)}')


class Misfit(NamedTuple):
    """Names that keep a state dict from being that of a model."""

    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]


def load_what_fits(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> Misfit:
    """Load weights, and say which do not fit; with ``misshapen`` ones, the model is left partly loaded."""
    misshapen = []
    try:
        keys = model.load_state_dict(weights, strict=False)
        missing, unexpected = keys.missing_keys, keys.unexpected_keys
    except RuntimeError as error:
        misshapen = re.findall(r'size mismatch for ([^:\s]+)', str(error))
        if not misshapen:
            raise
        expected = model.state_dict()
        missing = [key for key in expected if key not in weights]
        unexpected = [key for key in weights if key not in expected]
    # Older BatchNorms were saved without their counter, which nothing reads.
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    return Misfit(missing, unexpected, misshapen)


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """The model itself, where a Runner has wrapped it for several ranks."""
    return model.module if is_model_wrapper(model) else model


def first_names(names: Sequence[str]) -> str:
    """The first few of a list of names, and how many more there are."""
    more = len(names) - _NAMES_SHOWN
    return ', '.join(names[:_NAMES_SHOWN]) + (f', and {more} more' if more > 0 else '')


def _initial_lrs(param_groups: list[dict]) -> list[float]:
    return [group.get('initial_lr', group['lr']) for group in param_groups]


def _load_for_mmengine(
    file: str | Path | io.IOBase, map_location: MapLocation = None, weights_only: bool = True
) -> dict:
    """What ``mmengine.runner.checkpoint`` calls; ``weights_only`` is always true here."""
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
        raise CheckpointError(f'{path} is damaged or no safetensors file: {error}') from error


def _read_torch(file: io.IOBase, name: str, map_location: MapLocation) -> dict:
    start = file.read(64)
    file.seek(0)
    if not start.startswith((b'PK', b'\x80')):  # a zip archive, as torch.save writes, or a bare pickle
        raise CheckpointError(f'{name} is no checkpoint: it begins with {start[:16]!r}')
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    _check_archive(file, size, name)
    try:
        with torch.serialization.safe_globals(_allowed_globals()):
            checkpoint = torch.load(file, map_location=map_location, weights_only=True)
    except UnpicklingError as error:
        raise CheckpointError(_refusal(name, str(error), _unknown_globals(file))) from error
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a file of arbitrary bytes makes the unpickler stumble over
        reason = str(error).partition('\n')[0]
        raise CheckpointError(
            f'{name} is damaged or cut short ({reason}): use an earlier checkpoint'
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f'{name} holds a {type(checkpoint).__name__}, not a dict of weights')
    check_sizes(checkpoint, size, name)
    return checkpoint


def _check_archive(file: io.IOBase, size: int, name: str) -> None:
    """Refuse an archive that would grow while it is read: torch.save compresses nothing."""
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
                f'{name} is refused: {len(packed)} of its parts are compressed, which torch.save never '
                f'does, and its {size:,} bytes would unpack to {unpacked:,}'
            )
    file.seek(0)


def check_sizes(content: object, size: int, name: str) -> None:
    """Refuse arrays that are larger than their file: views that repeat a few numbers without end.

    Raises:
        CheckpointError: Names the shape.
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
    """All names that a checkpoint's pickle wants beyond those that are known; found without running it."""
    file.seek(0)
    try:
        with torch.serialization.safe_globals(_allowed_globals()):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # of an older format, or damaged
        return []


def _refusal(name: str, message: str, unknown: Sequence[str]) -> str:
    wanted = re.search(r'GLOBAL (\S+)', message) or re.search(r'(?:for|got) (<.*>)', message)
    if wanted is None:
        return f'{name} is damaged: its pickle cannot be read'
    names = dict.fromkeys([wanted.group(1), *unknown])
    return (
        f'{name} is refused: reading it would call {", ".join(names)}, and a checkpoint may hold only '
        'tensors, plain Python values, numpy arrays and mmengine histories. If you trust its origin, write '
        'its encoder to a new file: python tools/convert_checkpoint.py OLD NEW --to mmpretrain --trust'
    )


def _allowed_globals() -> list:
    """Types and functions that may appear in a checkpoint beside torch's own."""
    numpy_functions = [
        (function, f'{module}.{name}')
        for module in _NUMPY_MODULES
        for name, function in NUMPY_FUNCTIONS.items()
    ]
    return [
        *numpy_functions,
        (NumberArray, 'numpy.ndarray'),
        (Number, 'numpy.dtype'),
        HistoryBuffer,
        (_history_method, 'builtins.getattr'),
        (Settings, 'argparse.Namespace'),
    ]


class Settings:
    """Stands in for ``argparse.Namespace``, in which timm and DINO save their settings: all is forgotten."""

    def __setstate__(self, state: object) -> None:
        """Take nothing."""


class Number:
    """Stands in for ``numpy.dtype`` in a pickle: the type of a number and its byte order, and nothing else.

    A real dtype can be told by a pickle to take the bytes of an array for addresses.

    Args:
        name: Such as ``'f4'``.
        align: Ignored, as ``copy``; numpy writes both.
        copy: See ``align``.

    Raises:
        UnpicklingError: If it is no type of number.
    """

    def __init__(self, name: str, align: bool = False, copy: bool = False) -> None:
        if not isinstance(name, str) or np.dtype(name).kind not in 'biufc':
            raise UnpicklingError(f'GLOBAL numpy.dtype({name!r})')
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1] if state[1] in ('<', '>') else '=')


class NumberArray(np.ndarray):
    """Stands in for ``numpy.ndarray`` in a pickle: filled only with as many bytes as its shape asks for."""

    def __new__(cls, *args: object) -> np.ndarray:
        raise UnpicklingError('GLOBAL numpy.ndarray(...)')

    def __setstate__(self, state: tuple) -> None:
        _, shape, number, fortran, content = state
        if type(number) is not Number or not isinstance(content, bytes):
            raise UnpicklingError('GLOBAL numpy.ndarray.__setstate__')
        array = np.frombuffer(content, number.dtype).reshape(shape)  # raises where they do not agree
        super().__setstate__((1, array.shape, number.dtype, bool(fortran), content))

    def __reduce_ex__(self, protocol: int) -> tuple:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _empty_array(*args: object) -> np.ndarray:
    """Stands in for numpy's ``_reconstruct``: an array for ``__setstate__`` to fill."""
    return np.ndarray.__new__(NumberArray, (0,), 'b')


def _number_scalar(number: Number, content: bytes) -> np.generic:
    """Stands in for numpy's ``scalar``: a number from its bytes."""
    if type(number) is not Number or not isinstance(content, bytes) or len(content) != number.dtype.itemsize:
        raise UnpicklingError('GLOBAL numpy.scalar')
    return np.frombuffer(content, number.dtype)[0]


NUMPY_FUNCTIONS = {'_reconstruct': _empty_array, 'scalar': _number_scalar}


def _history_method(owner: type, name: str) -> Callable:
    """Stands in for ``getattr``, which pickles of a ``HistoryBuffer`` call to name its methods."""
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise UnpicklingError(f'GLOBAL builtins.getattr(...,{name!r})')
    return vars(HistoryBuffer)[name]
