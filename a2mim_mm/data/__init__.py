"""Images: folders with and without labels, decoding, and randomness that belongs to the sample."""

from a2mim_mm import quiet  # noqa: F401, before anything imports mmpretrain's data sets

from .channels import LoadChannels
from .dataset import UnlabelledImages
from .decoding import UnreadableImageError, decode_image
from .labelled import LabelledImages
from .randomness import SampleKey, seeded
from .resizing import RandomResizedCrop
from .sampler import KeyedRepeatAugSampler, KeyedSampler
from .transforms import LoadImage, MaskSeed

__all__ = [
    'KeyedRepeatAugSampler',
    'KeyedSampler',
    'LabelledImages',
    'LoadChannels',
    'LoadImage',
    'MaskSeed',
    'RandomResizedCrop',
    'SampleKey',
    'UnlabelledImages',
    'UnreadableImageError',
    'decode_image',
    'seeded',
]
