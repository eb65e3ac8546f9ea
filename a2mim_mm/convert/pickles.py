"""Raw pickles of numpy arrays, detectron2's ``.pkl``, read without running code from them.

The unpickler knows what numpy needs to rebuild an array of numbers, and no other name.
"""

import pickle
from pathlib import Path

import numpy as np

from a2mim_mm.engine.checkpoint import NUMPY_FUNCTIONS, CheckpointError, Number, NumberArray, check_sizes


def _from_buffer(content: bytes, number: Number, shape: tuple, order: str) -> np.ndarray:
    """Stands in for numpy's ``_frombuffer``, which pickles of protocol 5 call."""
    return np.frombuffer(content, number.dtype).reshape(shape, order=order)


_MODULES = ('numpy.core.multiarray', 'numpy._core.multiarray')
_ALLOWED = {
    **{(module, name): function for module in _MODULES for name, function in NUMPY_FUNCTIONS.items()},
    ('numpy.core.numeric', '_frombuffer'): _from_buffer,
    ('numpy._core.numeric', '_frombuffer'): _from_buffer,
    ('numpy', 'ndarray'): NumberArray,
    ('numpy', 'dtype'): Number,
}


class _Refused(Exception):
    """The pickle wants a name that is not allowed."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ALLOWED:
            raise _Refused(f'it would call {module}.{name}')
        return _ALLOWED[module, name]


def read_array_pickle(path: Path) -> dict:
    """Read a pickle that holds numpy arrays and plain Python values.

    Raises:
        CheckpointError: If it wants anything else, is damaged, or holds no dict.
    """
    try:
        with path.open('rb') as file:
            content = _ArrayUnpickler(file, encoding='latin1').load()
    except (_Refused, pickle.UnpicklingError) as error:
        if isinstance(error, pickle.UnpicklingError) and not str(error).startswith('GLOBAL '):
            raise CheckpointError(f'{path} is damaged or no pickle: {error}') from error
        raise CheckpointError(
            f'{path} is refused: {error}, and a raw pickle may hold only numpy arrays and plain Python values'
        ) from error
    except Exception as error:  # whatever a file of arbitrary bytes makes the unpickler stumble over
        raise CheckpointError(f'{path} is damaged or no pickle: {type(error).__name__}: {error}') from error
    if not isinstance(content, dict):
        raise CheckpointError(f'{path} holds a {type(content).__name__}, not a dict of weights')
    check_sizes(content, path.stat().st_size, str(path))
    return content
