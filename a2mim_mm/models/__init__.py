"""The method: where to hide, what fills the holes, the token, the losses, and what joins them."""

from .a2mim import A2MIM
from .decoder import LinearDecoder
from .fill import Fill
from .frequency_loss import FocalFrequencyLoss, focal_frequency_loss, loss_composite
from .head import A2MIMHead
from .mask_token import MaskToken
from .masking import RandomPatchMask, RectangleMask
from .pixel_loss import FocalL1Loss, PixelL1Loss
from .preprocessor import channels_preprocessor

__all__ = [
    'A2MIM',
    'A2MIMHead',
    'Fill',
    'FocalFrequencyLoss',
    'FocalL1Loss',
    'LinearDecoder',
    'MaskToken',
    'PixelL1Loss',
    'RandomPatchMask',
    'RectangleMask',
    'channels_preprocessor',
    'focal_frequency_loss',
    'loss_composite',
]
