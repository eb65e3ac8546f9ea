"""Samplers that tell the data set which epoch it is."""

import itertools
from collections.abc import Iterator

from mmengine.dataset import DefaultSampler
from mmpretrain.datasets.samplers import RepeatAugSampler

from a2mim_mm.registry import DATA_SAMPLERS

from .randomness import SampleKey


@DATA_SAMPLERS.register_module()
class KeyedSampler(DefaultSampler):
    """mmengine's ``DefaultSampler``, of whose indices each comes as a :class:`SampleKey`.

    The epoch travels with the index because workers that persist never hear
    of a new one. mmengine's ``DistSamplerSeedHook``, a default hook with or
    without several ranks, sets it.
    """

    def __iter__(self) -> Iterator[SampleKey]:
        """Keys of this rank's samples in this epoch."""
        seed, epoch = self.seed, self.epoch
        return (SampleKey(seed, epoch, index) for index in super().__iter__())


@DATA_SAMPLERS.register_module()
class KeyedRepeatAugSampler(RepeatAugSampler):
    """mmpretrain's ``RepeatAugSampler`` (repeated augmentation); each copy of an image has its own key.

    An epoch visits a third of the images, each in three versions, which go to neighbouring ranks, or follow
    each other in one process. The versions differ in the seed of their :class:`SampleKey`.
    """

    def __iter__(self) -> Iterator[SampleKey]:
        """Keys of this rank's samples in this epoch."""
        seed, epoch, repeats = self.num_repeats * self.seed, self.epoch, self.num_repeats
        places = itertools.count(self.rank, self.world_size)  # in the order of all ranks
        return (
            SampleKey(seed + place % repeats, epoch, index)
            for place, index in zip(places, super().__iter__(), strict=False)
        )
