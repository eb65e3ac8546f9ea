"""Libraries that only some networks and conversions need: imported when used, and named when missing."""

import importlib
from pathlib import Path
from types import ModuleType

from .errors import InputError


class LibraryMissing(InputError):
    """A network cannot be built, because its library is not installed."""


def optional_library(name: str, install: str = '-r requirements/convert.txt') -> ModuleType:
    """Import a library.

    Args:
        name: Its module.
        install: What pip is to install.

    Raises:
        LibraryMissing: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise LibraryMissing(f'{name} is not installed (pip install {install})') from error


def timm() -> ModuleType:
    """timm, as of version 1.0.31, which saves the arguments of models."""
    return optional_library('timm')


def onnxruntime_session(path: Path) -> object:
    """A session of onnxruntime on the CPU."""
    runtime = optional_library('onnxruntime')
    return runtime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
