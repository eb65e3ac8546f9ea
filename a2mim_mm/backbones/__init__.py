"""The backbones that mmpretrain does not have, and how any network is understood: its sites and layouts."""

from .given_module import given_module
from .resnet import ResNet
from .timm_backbone import timm_backbone
from .vit import A2MIMViT
from .windowed_vit import WindowedA2MIMViT

__all__ = ['A2MIMViT', 'ResNet', 'WindowedA2MIMViT', 'given_module', 'timm_backbone']
