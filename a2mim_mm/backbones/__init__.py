"""The backbones that mmpretrain does not have: ViTs with relative position bias, and ResNet-200."""

from .resnet import ResNet
from .vit import A2MIMViT
from .windowed_vit import WindowedA2MIMViT

__all__ = ['A2MIMViT', 'ResNet', 'WindowedA2MIMViT']
