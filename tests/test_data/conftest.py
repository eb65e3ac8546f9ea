"""What the tests of the data share."""

import gc

import pytest


@pytest.fixture(autouse=True, scope='module')
def quick_garbage_collection():
    """Mmengine collects garbage whenever it makes a data set: half a second with all libraries loaded."""
    gc.freeze()
    yield
    gc.unfreeze()
