"""The loss on the Fourier spectrum (Section 4, "Prediction Target", Eq. 3-5)."""

import inspect

import torch
from torch import Tensor, nn

from a2mim_mm.errors import InputError
from a2mim_mm.registry import MODELS

from .pixel_loss import focal_l1

# What the weight is divided by: its maximum over these axes.
NORMALIZE = dict(channel=(2, 3), batch=(0, 1, 2, 3))


def loss_composite(
    pred: Tensor, target: Tensor, mask_b1hw: Tensor, leak: float = 0.0, target_share: float = 0.0
) -> Tensor:
    """The image whose spectrum is compared: in the paper ``pred * M + sg(pred) * (1 - M)`` (Eq. 4).

    Its value is that of ``pred``. The detached part keeps the gradient away from visible pixels. The authors'
    code mixes the target into that part and leaks a little gradient:
    ``leak * pred + (1 - leak) * ((1 - target_share) * sg(pred) + target_share * target)``. Both shares are in
    [0, 1]; images are (B, C, H, W), the mask (B, 1, H, W), 1 = hidden.
    """
    visible = pred.detach()
    if target_share:
        visible = (1 - target_share) * visible + target_share * target
    if leak:
        visible = leak * pred + (1 - leak) * visible
    return torch.where(mask_b1hw.bool(), pred, visible)


def focal_frequency_loss(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: float = 1.0,
    reweight: bool = True,
    squared: bool = False,
    batch_spectrum: bool = False,
    log_weight: bool = False,
    normalize: str = 'channel',
    focal_beta: float | None = None,
) -> Tensor:
    r"""Mean over (b, c, u, v) of :math:`\omega |D|`, D the orthonormal DFT of ``pred - target`` (Eq. 3-5).

    :math:`\omega = |D|^\alpha`, detached and divided by its maximum. The scaling by a maximum, the means and
    the orthonormal DFT are those of Focal Frequency Loss (Jiang et al., 2021), which Eq. 5 cites.

    The DFT is linear, and the spectrum of a real image is Hermitian. So half a spectrum of the difference is
    enough. It is computed in float32 at least.

    Args:
        pred: Prediction, or its :func:`loss_composite`, (B, C, H, W).
        target: Target (B, C, H, W).
        alpha: Exponent of the weight (Eq. 5).
        reweight: Whether to use the weight at all (Table 5, "w/o omega").
        squared: Compare by :math:`|D|^2` instead of :math:`|D|` (Eq. 4).
        batch_spectrum: Average the spectra over the batch before comparing.
        log_weight: Take :math:`\log(1 + |D|^\alpha)` as the weight.
        normalize: ``'channel'`` divides the weight by its maximum in each image and channel, ``'batch'`` by
            its maximum over the batch.
        focal_beta: Compare by :class:`FocalL1Loss`'s :math:`|D| (2 \sigma(\beta |D|) - 1)` with this slope,
            instead of :math:`|D|`: with ``reweight=False`` what the authors' code does for ResNet-101.
    """
    # Half precision has no FFT on CPUs, and on CUDA only for powers of two: 224 would fail.
    with torch.autocast(pred.device.type, enabled=False):
        pred, target = (image.to(torch.promote_types(image.dtype, torch.float32)) for image in (pred, target))
        difference = pred - target
        if batch_spectrum:
            difference = difference.mean(dim=0, keepdim=True)
        distance = torch.fft.rfft2(difference, norm='ortho').abs()
        error = distance.square() if squared else distance
        if focal_beta is not None:
            error = focal_l1(distance, focal_beta)
        if reweight:
            weight = distance.detach() ** alpha
            weight = torch.log1p(weight) if log_weight else weight
            maximum = weight.amax(dim=NORMALIZE[normalize], keepdim=True)
            # If the maximum is 0, every weight is 0. Dividing by the smallest number then gives 0.
            error = error * (weight / maximum.clamp_min(torch.finfo(weight.dtype).tiny))
        return (error * _multiplicity(difference)).mean(dim=(0, 1)).sum() / difference.shape[-2:].numel()


def _multiplicity(image: Tensor) -> Tensor:
    """How often each column of the half spectrum occurs in the whole one, (W // 2 + 1,)."""
    width = image.shape[-1]
    count = image.new_full((width // 2 + 1,), 2)
    count[0] = 1
    if width % 2 == 0:
        count[-1] = 1
    return count


@MODELS.register_module()
class FocalFrequencyLoss(nn.Module):
    """L_freq of Eq. 4: :func:`focal_frequency_loss` of the :func:`loss_composite`.

    The defaults are the ``paper`` preset. The ``official`` one, which the authors' code computes, is
    ``squared=True, batch_spectrum=True, log_weight=True, normalize='batch', target_share=0.5``, and for CNNs
    ``leak=1e-3``. It depends on the batch size of a process.

    Args:
        leak, target_share: Of :func:`loss_composite`.
        **spectrum: Of :func:`focal_frequency_loss`.
    """

    def __init__(self, leak: float = 0.0, target_share: float = 0.0, **spectrum) -> None:
        super().__init__()
        # With the defaults of the function, and a TypeError where a name is misspelt.
        arguments = inspect.signature(focal_frequency_loss).bind(None, None, **spectrum)
        arguments.apply_defaults()
        self.spectrum = arguments.kwargs
        self.composite = dict(leak=leak, target_share=target_share)
        alpha, normalize, beta = (self.spectrum[name] for name in ('alpha', 'normalize', 'focal_beta'))
        if alpha <= 0:
            raise InputError(f'alpha must be positive, got {alpha}: reweight=False removes the weight')
        if normalize not in NORMALIZE:
            raise InputError(f'normalize must be one of {", ".join(NORMALIZE)}, got {normalize!r}')
        if beta is not None and (beta <= 0 or self.spectrum['squared']):
            raise InputError(f'focal_beta must be positive, without squared=True, got {beta}')
        for name, value in self.composite.items():
            if not 0 <= value <= 1:
                raise InputError(f'{name} must lie in [0, 1], got {value}')

    @torch.compiler.disable
    def forward(self, pred: Tensor, target: Tensor, mask_b1hw: Tensor) -> Tensor:
        """Images (B, C, H, W) and mask (B, 1, H, W), 1 = hidden, to a scalar."""
        image = loss_composite(pred, target, mask_b1hw, **self.composite)
        return focal_frequency_loss(image, target, **self.spectrum)
