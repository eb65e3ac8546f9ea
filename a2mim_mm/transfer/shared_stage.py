"""The last stage of ResNet, which a C4 detector runs on each region."""

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmpretrain.models.backbones.resnet import ResLayer, ResNet, get_expansion
from torch import Tensor

from a2mim_mm.errors import InputError
from a2mim_mm.registry import MODELS


@MODELS.register_module()
class ResLayerExtraNorm(BaseModule):
    """Stage 4 of ResNet, ``layer4``, and a norm that no pre-training has.

    MoCo's ``Res5ROIHeadsExtraNorm`` (https://arxiv.org/abs/1911.05722, Appendix): the norm calibrates the
    features of a pre-trained stage for the heads. The names below ``layer4`` are those of the backbone.

    Args:
        depth: Layers of the ResNet: 18, 34, 50, 101 or 152.
        norm_cfg: Norms of the stage and the extra one.
        style: ``'pytorch'``: the 3 x 3 convolution has the stride; ``'caffe'``: the first 1 x 1.
        init_cfg: Of mmengine's ``BaseModule``; by default as mmpretrain's ResNet.

    Raises:
        ValueError: If there is no ResNet of that depth.
    """

    def __init__(
        self,
        depth: int = 50,
        norm_cfg: dict | None = None,
        style: str = 'pytorch',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            init_cfg
            or [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        )
        if depth not in ResNet.arch_settings:
            raise InputError(f'depth is {depth!r}; allowed: {sorted(ResNet.arch_settings)}')
        norm_cfg = norm_cfg or dict(type='BN')
        block, (*_, num_blocks) = ResNet.arch_settings[depth]
        expansion = get_expansion(block)
        self.layer4 = ResLayer(
            block,
            num_blocks,
            in_channels=256 * expansion,
            out_channels=512 * expansion,
            stride=2,
            style=style,
            norm_cfg=norm_cfg,
        )
        self.norm = build_norm_layer(norm_cfg, 512 * expansion)[1]

    def forward(self, feat_bchw: Tensor) -> Tensor:
        """(regions, 256 e, h, w) to (regions, 512 e, h / 2, w / 2); e is 4 from depth 50 on, else 1."""
        return self.norm(self.layer4(feat_bchw))
