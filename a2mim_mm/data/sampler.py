"""The sampler that tells the data set which epoch it is."""

from collections.abc import Iterator

from mmengine.dataset import DefaultSampler

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
