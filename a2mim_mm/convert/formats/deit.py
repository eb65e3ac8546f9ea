"""facebookresearch DeiT, and other ViTs with timm's names and a classifier."""

from ..origin import CLASSIFIER, Origin
from .timm_vit import VIT

ORIGINS = (Origin(140, 'deit', 'facebookresearch DeiT', (VIT,), outside=CLASSIFIER),)
