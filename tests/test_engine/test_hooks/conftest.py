"""What hooks need of a training, for real and as a stub."""

from itertools import count

import pytest
from helpers.toy_training import tool, write_config
from mmengine.logging import MessageHub
from mmengine.structures import BaseDataElement


@pytest.fixture
def train(tmp_path):
    """Trains the toy; returns its work dir."""
    numbers = count()

    def run(extra='', name='run', *args):
        config = write_config(tmp_path, extra, f'{tmp_path.name}_{next(numbers)}')
        tool('train').main([config, '--work-dir', str(tmp_path / name), *args])
        return tmp_path / name

    return run


@pytest.fixture
def runner():
    """What a hook needs of a Runner with `length` images."""

    class Runner:
        iter = epoch = rank = 0

        def __init__(self, length):
            self.message_hub = MessageHub('fake')
            self.train_dataloader = type('Loader', (), dict(dataset=range(length), batch_size=2))
            self.lines, self.logger = [], self
            self.warning = self.error = self.lines.append

    return Runner


@pytest.fixture
def batch():
    """A batch with the notes of its images."""
    return lambda *notes: dict(
        data_samples=[BaseDataElement(unreadable=[note] if note else []) for note in notes]
    )
