"""What a pickle may call: stand-ins for the few names that checkpoints need, and the lists of them.

A pickle is a program. The unpicklers of this package know only the names in these lists, and each name
leads to a stand-in that can build numbers and nothing else.
"""

import pickle
from collections.abc import Callable
from pickle import UnpicklingError

import numpy as np
from mmengine.logging import HistoryBuffer

# What mmengine's full checkpoints hold beside tensors, in files of numpy 1 and 2.
_NUMPY_MODULES = ('numpy._core.multiarray', 'numpy.core.multiarray')
_STATISTICS = frozenset({'min', 'max', 'mean', 'current'})


class Settings:
    """Stands in for ``argparse.Namespace``, in which timm and DINO save their settings, and forgets them."""

    def __setstate__(self, state: object) -> None:
        """Take nothing."""


class Number:
    """Stands in for ``numpy.dtype`` in a pickle: the type of a number and its byte order, and nothing else.

    With a real dtype a pickle can make numpy take the bytes of an array for addresses.

    Args:
        name: Such as ``'f4'``.

    Raises:
        UnpicklingError: If it is not a type of number.
    """

    def __init__(self, name: str, *_flags: bool) -> None:
        if not isinstance(name, str) or np.dtype(name).kind not in 'biufc':
            raise UnpicklingError(f'GLOBAL numpy.dtype({name!r})')
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1] if state[1] in ('<', '>') else '=')


class NumberArray(np.ndarray):
    """Stands in for ``numpy.ndarray`` in a pickle; takes only as many bytes as its shape asks for."""

    def __new__(cls, *_args: object) -> np.ndarray:
        """Refuse to make an array of any other shape than that of a pickle."""
        raise UnpicklingError('GLOBAL numpy.ndarray(...)')

    def __setstate__(self, state: tuple) -> None:
        _, shape, number, fortran, content = state
        if type(number) is not Number or not isinstance(content, bytes):
            raise UnpicklingError('GLOBAL numpy.ndarray.__setstate__')
        array = np.frombuffer(content, number.dtype).reshape(shape)  # raises if they do not agree
        super().__setstate__((1, array.shape, number.dtype, bool(fortran), content))

    def __reduce_ex__(self, protocol: int) -> tuple:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _empty_array(*_args: object) -> np.ndarray:
    """Stands in for numpy's ``_reconstruct``: an array for ``__setstate__`` to fill."""
    return np.ndarray.__new__(NumberArray, (0,), 'b')


def _number_scalar(number: Number, content: bytes) -> np.generic:
    """Stands in for numpy's ``scalar``: a number from its bytes."""
    if type(number) is not Number or not isinstance(content, bytes) or len(content) != number.dtype.itemsize:
        raise UnpicklingError('GLOBAL numpy.scalar')
    return np.frombuffer(content, number.dtype)[0]


NUMPY_FUNCTIONS = {'_reconstruct': _empty_array, 'scalar': _number_scalar}


def _history_method(owner: type, name: str) -> Callable:
    """Stands in for ``getattr``, with which pickles of a ``HistoryBuffer`` name its methods."""
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise UnpicklingError(f'GLOBAL builtins.getattr(...,{name!r})')
    return vars(HistoryBuffer)[name]


def allowed_globals() -> list:
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


class RefusedError(Exception):
    """A pickle calls a name that is not allowed."""


class ArrayUnpickler(pickle.Unpickler):
    """Knows how numpy rebuilds an array of numbers, and nothing else."""

    def find_class(self, module: str, name: str) -> object:
        """The stand-in of an allowed name.

        Raises:
            RefusedError: If the name is not allowed.
        """
        if (module, name) not in _ALLOWED:
            raise RefusedError(f'it would call {module}.{name}')
        return _ALLOWED[module, name]
