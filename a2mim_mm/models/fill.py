"""Fills the hidden pixels of the input."""

import torch
from torch import Tensor, nn

from a2mim_mm.errors import InputError

MODES = ('mean', 'zero', 'token', 'none')


class Fill(nn.Module):
    """Fills the hidden pixels of an image before it enters the backbone.

    Args:
        mode: ``'mean'``: the image's own mean colour, over all its pixels (Section 4: "the mean of RGB
            channels of the image"; default). ``'zero'``: the data set's mean colour, because inputs are
            normalised. ``'token'``: one learnable colour. ``'none'``: the image stays whole, for ablations of
            the token inside the network.
        channels: Number C of channels of the images.
    """

    def __init__(self, mode: str = 'mean', channels: int = 3) -> None:
        super().__init__()
        if mode not in MODES:
            raise InputError(f'fill must be one of {", ".join(MODES)}, got {mode!r}')
        self.mode = mode
        if mode == 'token':
            self.pixel_token = nn.Parameter(torch.zeros(channels))

    def forward(self, img_bchw: Tensor, mask_b1hw: Tensor) -> Tensor:
        """Normalised image (B, C, H, W) and mask (B, 1, H, W) of its size, to the filled image."""
        if self.mode == 'none':
            return img_bchw
        return torch.where(mask_b1hw.bool(), self._colour(img_bchw), img_bchw)

    def _colour(self, img_bchw: Tensor) -> Tensor:
        if self.mode == 'mean':
            return img_bchw.mean(dim=(2, 3), keepdim=True)
        if self.mode == 'token':
            return self.pixel_token.to(img_bchw.dtype).view(1, -1, 1, 1)
        return img_bchw.new_zeros(())
