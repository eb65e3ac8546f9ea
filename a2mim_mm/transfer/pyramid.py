"""Makes maps of four sizes from maps of one, which a plain ViT needs before an FPN or a UperNet head."""

import math
from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule, Sequential
from torch import Tensor, nn

from a2mim_mm.errors import InputError
from a2mim_mm.registry import MODELS

STRIDES = (4, 8, 16, 32)


@MODELS.register_module()
class ViTPyramid(BaseModule):
    """Rescales features of a plain ViT to strides of 4, 8, 16 and 32 pixels.

    Larger maps come from transposed convolutions of stride 2, with norm and GELU between two of them. Smaller
    maps come from max pooling. (Li et al., https://arxiv.org/abs/2111.11429, Section 2, for patches of 16.)

    Args:
        channels: Channels of the features, in and out.
        patch_size: Stride of the features, in pixels: 4, 8, 16 or 32.
        norm_cfg: The norm between two transposed convolutions.
        init_cfg: Of mmengine's ``BaseModule``.

    Raises:
        ValueError: If ``patch_size`` is another number.
    """

    def __init__(
        self,
        channels: int,
        patch_size: int = 16,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if patch_size not in STRIDES:
            raise InputError(f'patch_size is {patch_size!r}; allowed: {STRIDES}')
        norm_cfg = norm_cfg or dict(type='GN', num_groups=32)
        self.levels = nn.ModuleList(
            _enlarge(channels, patch_size // stride, norm_cfg)
            if stride < patch_size
            else nn.MaxPool2d(stride // patch_size, ceil_mode=True)
            for stride in STRIDES
        )

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Rescales.

        Args:
            feats: Four features (b, channels, h, w), from lower to higher layers.

        Returns:
            (b, channels, h', w') of strides 4, 8, 16 and 32. Smaller maps are rounded up.

        Raises:
            ValueError: If there are not four features.
        """
        if len(feats) != len(STRIDES):
            raise InputError(f'{len(feats)} features; allowed: {len(STRIDES)} (out_indices of the backbone)')
        return tuple(level(feat) for level, feat in zip(self.levels, feats, strict=True))


def _enlarge(channels: int, factor: int, norm_cfg: dict) -> Sequential:
    """Enlarges by a power of two, each time by two."""
    layers = [nn.ConvTranspose2d(channels, channels, 2, stride=2)]
    for _ in range(int(math.log2(factor)) - 1):
        layers += [
            build_norm_layer(norm_cfg, channels)[1],
            nn.GELU(),
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
        ]
    return Sequential(*layers)
