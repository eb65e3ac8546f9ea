"""The backbones that mmpretrain does not have: a ViT with relative position bias, and ResNet-200."""

from .resnet import ResNet
from .vit import A2MIMViT

__all__ = ['A2MIMViT', 'ResNet']
