"""The pixel losses: the paper's, and the one that the authors' released code uses for CNNs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from a2mim_mm.errors import InputError
from a2mim_mm.registry import MODELS


def focal_l1(distance: Tensor, beta: float) -> Tensor:
    r""":math:`|d| (2 \sigma(\beta |d|) - 1)` of distances :math:`|d|`; the weight has a gradient too."""
    return distance * (2 * torch.sigmoid(beta * distance) - 1)


@MODELS.register_module()
class PixelL1Loss(nn.Module):
    """L_spa of Eq. 6: L1 on hidden pixels, of images of any number of channels.

    For RGB it is mmpretrain's ``PixelReconstructionLoss`` with ``criterion='L1', channel=3``, to the bit.
    """

    def forward(self, pred: Tensor, target: Tensor, mask_b1hw: Tensor) -> Tensor:
        """Images (B, C, H, W) and mask (B, 1, H, W) to a scalar: the mean over hidden pixels and channels."""
        loss = F.l1_loss(pred, target, reduction='none')
        return (loss * mask_b1hw).sum() / mask_b1hw.sum() / pred.shape[1]


@MODELS.register_module()
class FocalL1Loss(nn.Module):
    r"""L1 on hidden pixels that weighs a difference d by :math:`2 \sigma(\beta |d|) - 1`, in [0, 1).

    It belongs to the ``official`` preset for CNNs. The paper's loss is :class:`PixelL1Loss`, averaged in the
    same way.

    Args:
        beta: Slope of the weight, positive.
    """

    def __init__(self, beta: float = 0.2) -> None:
        super().__init__()
        if beta <= 0:
            raise InputError(f'beta must be positive, got {beta}')
        self.beta = beta

    def forward(self, pred: Tensor, target: Tensor, mask_b1hw: Tensor) -> Tensor:
        """Images (B, C, H, W) and mask (B, 1, H, W) to a scalar: the mean over hidden pixels and channels."""
        loss = focal_l1((pred - target).abs(), self.beta)
        return (loss * mask_b1hw).sum() / mask_b1hw.sum() / pred.shape[1]
