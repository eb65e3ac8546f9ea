"""The linear decoder, for images of any number of channels."""

from mmpretrain.models.necks import SimMIMLinearDecoder
from torch import nn

from a2mim_mm.registry import MODELS


@MODELS.register_module()
class LinearDecoder(SimMIMLinearDecoder):
    """A 1 x 1 convolution from a feature map (B, c, h, w) to an image (B, C, h * stride, w * stride).

    For RGB it is mmpretrain's ``SimMIMLinearDecoder``, with the same names and the same random start.

    Args:
        in_channels: Channels c of the map.
        encoder_stride: Pixels of the image for one position of the map.
        out_channels: Channels C of the image. :class:`A2MIM` fills it in where a config leaves it out.
    """

    def __init__(self, in_channels: int, encoder_stride: int, out_channels: int = 3) -> None:
        super().__init__(in_channels, encoder_stride)
        if out_channels != 3:
            self.decoder[0] = nn.Conv2d(in_channels, encoder_stride**2 * out_channels, kernel_size=1)
