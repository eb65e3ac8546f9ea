"""Samplers that tell the data set which epoch it is."""

import itertools
from collections.abc import Iterator

from mmengine.dataset import DefaultSampler
from mmpretrain.datasets.samplers import RepeatAugSampler

from a2mim_mm.registry import DATA_SAMPLERS

from .randomness import SampleKey


@DATA_SAMPLERS.register_module()
class KeyedSampler(DefaultSampler):
    """mmengine's ``DefaultSampler``, with a :class:`SampleKey` for each index.

    The epoch travels with the index because persistent workers never hear of a new one. mmengine's
    ``DistSamplerSeedHook``, a default hook, sets it.
    """

    def __iter__(self) -> Iterator[SampleKey]:
        """Keys of this rank's samples in this epoch."""
        seed, epoch = self.seed, self.epoch
        return (SampleKey(seed, epoch, index) for index in super().__iter__())


@DATA_SAMPLERS.register_module()
class KeyedRepeatAugSampler(RepeatAugSampler):
    """mmpretrain's ``RepeatAugSampler`` (repeated augmentation), with a key for each copy of an image.

    An epoch visits a third of the images, each in three versions. The versions go to neighbouring ranks, or
    follow each other in one process. They differ in the seed of their :class:`SampleKey`.
    """

    def __iter__(self) -> Iterator[SampleKey]:
        """Keys of this rank's samples in this epoch."""
        seed, epoch, repeats = self.num_repeats * self.seed, self.epoch, self.num_repeats
        places = itertools.count(self.rank, self.world_size)  # in the order of all ranks
        return (
            SampleKey(seed + place % repeats, epoch, index)
            for place, index in zip(places, super().__iter__(), strict=False)
        )
