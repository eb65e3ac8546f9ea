"""Pictures of what a model predicts (Figures 5, A2 and A3)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from a2mim_mm.errors import InputError

from .a2mim import A2MIM
from .masking import mask_grid, resize_mask


@torch.no_grad()
def reconstruct(model: A2MIM, images: Tensor, mask: Tensor, use_token: bool = True) -> dict[str, Tensor]:
    """Let a model predict hidden pixels, in evaluation mode; the model is left as it was.

    Args:
        model: The model.
        images: RGB images (B, 3, H, W), float in 0..1, on the device of the model.
        mask: Mask (B, h, w) on the mask grid, 1 = hidden; see :func:`draw_mask`.
        use_token: Whether the network receives the mask token (Figure A3: what the token carries).

    Returns:
        ``original``, ``masked`` (as the network sees it), ``prediction`` and ``composite`` (the prediction on
        hidden pixels, the original, exactly, on visible ones): RGB images (B, 3, H, W) in 0..1.

    Raises:
        ValueError: If the images are not float in 0..1, or the patch or the mask does not fit them.
    """
    if not images.is_floating_point() or images.min() < 0 or images.max() > 1:
        raise InputError(f'images must be floats in 0..1, got {images.dtype}, {images.min()}..{images.max()}')
    hidden, *drawn = _predict(model, images * 255, mask, use_token)
    return _columns(images, hidden, *((image / 255).clamp(0, 1) for image in drawn))


@torch.no_grad()
def reconstruct_channels(
    model: A2MIM, images: Tensor, mask: Tensor, use_token: bool = True
) -> dict[str, Tensor]:
    """Like :func:`reconstruct`, for images (B, C, H, W) of any channels, in the units of mean and std.

    So are the pictures. Nothing is clipped; :func:`a2mim_mm.drawing.to_rgb` brings them to 0..1.

    Raises:
        ValueError: If the images are not finite floats, or the patch or the mask does not fit them.
    """
    if not images.is_floating_point() or not images.isfinite().all():
        raise InputError(f'images must be finite floats, got {images.dtype}')
    hidden, *drawn = _predict(model, images, mask, use_token)
    return _columns(images, hidden, *drawn)


def _predict(model: A2MIM, images: Tensor, mask: Tensor, use_token: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Where pixels are hidden (B, 1, H, W), the filled images and the predicted ones, in the same units."""
    grid = mask_grid(tuple(images.shape[2:]), model.mask.patch_size)
    if mask.shape != (len(images), *grid):
        raise InputError(f'mask must be of shape {(len(images), *grid)}, got {tuple(mask.shape)}')
    mask_bhw = mask.to(images.device)
    mask_b1hw = resize_mask(mask_bhw, images.shape[2:])[:, None]
    mean, std = mean_std(model.data_preprocessor)
    img_bchw = (images - mean) / std
    with evaluating(model):
        pred_bchw = model.predict_pixels(img_bchw, mask_bhw, mask_b1hw, use_token).float()
    filled_bchw = model.fill(img_bchw, mask_b1hw)
    return mask_b1hw.bool(), filled_bchw * std + mean, pred_bchw * std + mean


def _columns(images: Tensor, hidden: Tensor, filled: Tensor, prediction: Tensor) -> dict[str, Tensor]:
    """The four pictures; visible pixels are exactly those of the images."""
    masked, composite = (torch.where(hidden, image, images) for image in (filled, prediction))
    return dict(original=images, masked=masked, prediction=prediction, composite=composite)


def draw_mask(model: A2MIM, images: Tensor, seed: int, first: int = 0) -> Tensor:
    """A mask of the model's kind for each image (B, C, H, W): (B, h, w), 1 = hidden, on the CPU.

    ``first`` is the number of the first image: a mask follows from the seed and the number of its image, not
    from the batch.
    """
    seeds = [(seed, first + index) for index in range(len(images))]
    return model.mask.draw(seeds, tuple(images.shape[2:]))


def mean_std(preprocessor: nn.Module) -> tuple[Tensor | float, Tensor | float]:
    """Mean and std of a channel, for photos in 0..255, with which a pre-processor normalises."""
    normalises = getattr(preprocessor, '_enable_normalize', False)
    return (preprocessor.mean, preprocessor.std) if normalises else (0.0, 1.0)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each module is in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
