"""The formats that can be read: one file for each, with its names and its ``ORIGINS``.

A new format is a new file here, and a line in ``docs/checkpoints.md``.
"""

import pkgutil
from importlib import import_module

from ..origin import Origin


def _registered() -> dict[str, Origin]:
    """The origins of all files in this folder, by name, in their order."""
    modules = [import_module(f'{__name__}.{module.name}') for module in pkgutil.iter_modules(__path__)]
    rows = [row for module in modules for row in getattr(module, 'ORIGINS', ())]
    return {row.name: row for row in sorted(rows, key=lambda row: row.rank)}


ORIGINS = _registered()
