"""ResNet-200, of which mmpretrain has no entry."""

from mmpretrain.models.backbones.resnet import Bottleneck
from mmpretrain.models.backbones.resnet import ResNet as _ResNet

from a2mim_mm.registry import MODELS


@MODELS.register_module()
class ResNet(_ResNet):
    """mmpretrain's ResNet, of depth 200 as well.

    Stages of 3, 24, 36 and 3 bottlenecks: He et al., https://arxiv.org/abs/1603.05027. Arguments and names of
    the parameters are those of the parent.
    """

    arch_settings = {**_ResNet.arch_settings, 200: (Bottleneck, (3, 24, 36, 3))}
