"""Fixtures that several folders of tests share.

Imports that take seconds are inside: pytest-xdist reads this file before it starts its workers.
"""

import gc
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def root() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope='session')
def sample_photos(tmp_path_factory) -> Path:
    """Folder with the dozen photos of scikit-image and scikit-learn."""
    from a2mim_mm.data.sample_photos import export_sample_photos

    folder = tmp_path_factory.mktemp('photos')
    export_sample_photos(folder)
    return folder


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    """Tensors of tests are small: more threads only wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope='module', autouse=True)
def frozen_libraries():
    """Keeps the garbage collector, which mmengine calls for each data set, from visiting all libraries."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_process():
    """Keeps what a config, a Runner or an interrupted tool sets in the process from reaching the next test.

    Ctrl-C works in it and in what it starts, also where the suite is the background job of a shell.
    """
    from mmengine.registry import DefaultScope

    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    DefaultScope._instance_dict.clear()
