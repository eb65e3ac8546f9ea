"""Images for pre-training: folders, decoding, and randomness that belongs to the sample."""

from .dataset import UnlabelledImages
from .decoding import UnreadableImageError, decode_image
from .randomness import SampleKey, seeded
from .sampler import KeyedSampler
from .transforms import LoadImage, MaskScores

__all__ = [
    'KeyedSampler',
    'LoadImage',
    'MaskScores',
    'SampleKey',
    'UnlabelledImages',
    'UnreadableImageError',
    'decode_image',
    'seeded',
]
