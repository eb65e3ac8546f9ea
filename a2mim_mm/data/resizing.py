"""Resizing as Pillow and torchvision do it: bilinear, antialiased.

A picture that is made smaller without a low-pass filter keeps frequencies that it should not have, and L_freq
would learn to predict them. torchvision's kernel for uint8 tensors gives Pillow's bilinear picture. It takes
about as long as cv2's bicubic one, which does not filter (measured in docs/fidelity.md).
"""

import numpy as np
import torch
from mmpretrain.datasets.transforms import RandomResizedCrop as _RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from a2mim_mm.registry import TRANSFORMS


def resize(img_hwc: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize an image, uint8 or float32 (H, W, C), to ``size_hw``; bilinear, antialiased."""
    img_chw = torch.from_numpy(np.require(img_hwc, requirements=('C', 'W'))).permute(2, 0, 1)
    return F.resize(img_chw, list(size_hw), antialias=True).permute(1, 2, 0).contiguous().numpy()


@TRANSFORMS.register_module()
class RandomResizedCrop(_RandomResizedCrop):
    """mmpretrain's ``RandomResizedCrop``, but with crops resized by :func:`resize`.

    **Required and modified keys:** ``img``, uint8 or float32 (H, W, C). **Modified keys:** ``img_shape``.

    Args:
        scale: Height and width of the crop, in pixels; one number for both.
        crop_ratio_range: Share of the image's area that a crop has.
        aspect_ratio_range: Width over height of a crop.
    """

    def __init__(
        self,
        scale: int | tuple[int, int],
        crop_ratio_range: tuple[float, float] = (0.08, 1.0),
        aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        super().__init__(scale, tuple(crop_ratio_range), tuple(aspect_ratio_range))

    def transform(self, results: dict) -> dict:
        """Crop and resize."""
        img_hwc = results['img']
        top, left, height, width = self.rand_crop_params(img_hwc)
        results['img'] = resize(img_hwc[top : top + height, left : left + width], self.scale)
        results['img_shape'] = results['img'].shape
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(scale={self.scale}, crop_ratio_range={self.crop_ratio_range}, '
            f'aspect_ratio_range={self.aspect_ratio_range})'
        )
