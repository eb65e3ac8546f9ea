"""Imports the data sets of mmpretrain without its line about OneDL, which this package does not use."""

import contextlib
import importlib
import io


def import_data_sets(library: str) -> None:
    """Import ``LIBRARY.datasets``, where it has some, and print what it prints but for OneDL."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f'{library}.datasets')
    for line in printed.getvalue().splitlines():
        if 'Could not import OneDL' not in line:
            print(line)


import_data_sets('mmpretrain')
