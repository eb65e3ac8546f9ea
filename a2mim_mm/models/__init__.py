"""The method: where to hide, the token, the losses, and the algorithm that joins them; what detectors add."""

from .a2mim import A2MIM
from .fill import Fill
from .frequency_loss import FocalFrequencyLoss, focal_frequency_loss, loss_composite
from .head import A2MIMHead
from .mask_token import MaskToken
from .masking import RandomPatchMask, RectangleMask
from .necks import ViTPyramid
from .pixel_loss import FocalL1Loss
from .resnet import ResNet
from .shared_stage import ResLayerExtraNorm
from .vit import A2MIMViT

__all__ = [
    'A2MIM',
    'A2MIMHead',
    'A2MIMViT',
    'Fill',
    'FocalFrequencyLoss',
    'FocalL1Loss',
    'MaskToken',
    'RandomPatchMask',
    'RectangleMask',
    'ResLayerExtraNorm',
    'ResNet',
    'ViTPyramid',
    'focal_frequency_loss',
    'loss_composite',
]
