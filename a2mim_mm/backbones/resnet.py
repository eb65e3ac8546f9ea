"""ResNet-200, which mmpretrain does not have."""

from mmpretrain.models.backbones.resnet import Bottleneck
from mmpretrain.models.backbones.resnet import ResNet as _ResNet

from a2mim_mm.registry import MODELS


@MODELS.register_module()
class ResNet(_ResNet):
    """mmpretrain's ResNet, also with depth 200.

    Stages of 3, 24, 36 and 3 bottlenecks: He et al., https://arxiv.org/abs/1603.05027. Arguments and names of
    the parameters are those of the parent.
    """

    arch_settings = {**_ResNet.arch_settings, 200: (Bottleneck, (3, 24, 36, 3))}
