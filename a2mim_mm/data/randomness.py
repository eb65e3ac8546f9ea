"""Randomness that belongs to the sample.

Crop, flip and mask of a sample follow from (seed, epoch, index) alone. So they are the same with any number
of workers and ranks, and after a restart.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class SampleKey(int):
    """An index that also carries the source of its sample's randomness.

    It is an integer, so it passes through data sets that wrap others, such as mmengine's ``ConcatDataset``
    and ``RepeatDataset``. Their arithmetic changes the index and keeps the rest.

    Args:
        seed: Seed of the run, not negative.
        epoch: Epoch, from 0.
        index: Index of the sample in the data set, not negative.
        place: Index in the outermost data set; by default ``index``.
    """

    def __new__(cls, seed: int, epoch: int, index: int, place: int | None = None) -> 'SampleKey':
        """Make the integer, and note the rest."""
        self = super().__new__(cls, index)
        self.seed, self.epoch, self.place = seed, epoch, int(index if place is None else place)
        return self

    @property
    def index(self) -> int:
        """The index in the data set."""
        return int(self)

    @property
    def words(self) -> tuple[int, int, int]:
        """The three numbers that all randomness follows from."""
        return self.seed, self.epoch, self.place

    def __getnewargs__(self) -> tuple[int, ...]:
        return self.seed, self.epoch, int(self), self.place

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SampleKey):
            return self.__getnewargs__() == other.__getnewargs__()
        return int(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.__getnewargs__())

    def __repr__(self) -> str:
        return f'SampleKey(seed={self.seed}, epoch={self.epoch}, index={int(self)}, place={self.place})'

    def __sub__(self, other: int) -> 'SampleKey':
        return SampleKey(self.seed, self.epoch, int(self) - other, self.place)

    def __mod__(self, other: int) -> 'SampleKey':
        return SampleKey(self.seed, self.epoch, int(self) % other, self.place)


@contextmanager
def seeded(key: SampleKey) -> Iterator[None]:
    """Seed the global CPU generators of ``random``, numpy and torch from a key; restore them afterwards.

    Transforms of mmcv and mmpretrain draw from these. Generators of accelerators are not touched.
    """
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    # Neighbouring keys must not give related streams. Their sum would; SeedSequence sees to it.
    words = np.random.SeedSequence(key.words).generate_state(3, np.uint32)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])
