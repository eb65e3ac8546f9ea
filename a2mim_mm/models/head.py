"""The two losses together (Eq. 6)."""

from mmengine.model import BaseModule
from torch import Tensor

from a2mim_mm.errors import InputError
from a2mim_mm.registry import MODELS


@MODELS.register_module()
class A2MIMHead(BaseModule):
    """L = L_spa + lambda * L_freq (Eq. 6).

    Args:
        loss_spa: Config of the pixel loss, which is called with (pred, target, mask). The default is L1, the
            mean over hidden pixels and channels.
        loss_freq: Config of the frequency loss, which is called in the same way.
        lambda_freq: The weight of L_freq, at least 0 (Section 4: 0.5). At 0 it is not computed.
    """

    def __init__(
        self, loss_spa: dict | None = None, loss_freq: dict | None = None, lambda_freq: float = 0.5
    ) -> None:
        super().__init__()
        if not lambda_freq >= 0:  # also refuses NaN
            raise InputError(f'lambda_freq must be at least 0, got {lambda_freq}')
        self.lambda_freq = lambda_freq
        self.loss_spa = MODELS.build(loss_spa or dict(type='a2mim_mm.PixelL1Loss'))
        self.loss_freq = MODELS.build(loss_freq or dict(type='a2mim_mm.FocalFrequencyLoss'))

    def loss(self, pred_bchw: Tensor, target_bchw: Tensor, mask_b1hw: Tensor) -> dict[str, Tensor]:
        """The terms of the loss, scalars: ``loss_spa``, and ``loss_freq`` multiplied by lambda.

        Prediction and target (the normalised image) are (B, C, H, W), the mask (B, 1, H, W), 1 = hidden.
        """
        pred_bchw = pred_bchw.float() if pred_bchw.dtype.itemsize < 4 else pred_bchw
        losses = dict(loss_spa=self.loss_spa(pred_bchw, target_bchw, mask_b1hw))
        if self.lambda_freq:
            losses['loss_freq'] = self.lambda_freq * self.loss_freq(pred_bchw, target_bchw, mask_b1hw)
        return losses
