"""Transforms of the pre-training pipeline that mmcv and mmpretrain do not have."""

import warnings
from functools import lru_cache

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from torch.utils.data import get_worker_info

from a2mim_mm.errors import InputError
from a2mim_mm.models.masking import mask_grid
from a2mim_mm.registry import TRANSFORMS

from .decoding import UnreadableImageError, decode_image
from .depth import decode_deep


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Reads an image, and refuses it rather than returning a wrong picture; see :func:`decode_image`.

    **Required keys:** ``img_path``.
    **Added keys:** ``img`` (BGR, uint8 (H, W, 3)), ``img_shape`` and ``ori_shape`` (H, W).

    Args:
        strict: False accepts JPEGs with oddities that some cameras write, see :func:`decode_image`.
        bits: Bits that images of 16 bits a channel really use, 8 to 16; by default all.
        backend_args: Arguments of mmengine's file backend; by default it follows from the path.
    """

    def __init__(
        self, strict: bool = True, bits: int | None = None, backend_args: dict | None = None
    ) -> None:
        if bits is not None and bits not in range(8, 17):
            raise InputError(f'bits must be in 8..16, got {bits!r}')
        self.strict = strict
        self.bits = bits
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Add the image.

        Raises:
            UnreadableImageError: If the file cannot be read or decoded.
        """
        try:
            data = fileio.get(results['img_path'], backend_args=self.backend_args)
        except OSError as error:
            raise UnreadableImageError(f'{type(error).__name__}: {error.strerror or error}') from error
        img_hw3 = None if self.bits is None else decode_deep(bytes(data), self.bits)
        if img_hw3 is None:
            img_hw3 = decode_image(bytes(data), self.strict)
        results['img'] = img_hw3
        results['img_shape'] = results['ori_shape'] = img_hw3.shape[:2]
        return results

    def __repr__(self) -> str:
        settings = f'strict={self.strict}, bits={self.bits}, backend_args={self.backend_args}'
        return f'{type(self).__name__}({settings})'


@TRANSFORMS.register_module()
class MaskScores(BaseTransform):
    """Draws the random scores of which the model makes the sample's mask: one a mask patch, in [0, 1).

    Goes after the crop. Numpy rather than torch: a batch of tensors would
    hold a file descriptor for each sample on its way from the worker.

    **Required keys:** ``img``.
    **Added keys:** ``mask_scores``, float32 (h, w) on the mask grid.

    Args:
        patch_size: Side of a mask patch, in pixels; the model's mask must have the same.
    """

    def __init__(self, patch_size: int) -> None:
        if patch_size < 1:
            raise InputError(f'patch_size must be a positive number of pixels, got {patch_size}')
        self.patch_size = patch_size

    def transform(self, results: dict) -> dict:
        """Add the scores.

        Raises:
            ValueError: If the patch does not divide the image.
        """
        grid = _grid(results['img'].shape[:2], self.patch_size)
        # A multiple of 2^-24 is exact in float32, where a float64 draw could be rounded up to 1.
        results['mask_scores'] = np.random.randint(1 << 24, size=grid).astype(np.float32) / (1 << 24)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(patch_size={self.patch_size})'


@lru_cache
def _grid(input_hw: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """``mask_grid``, whose warning of a small grid is worth reading once, not once an image and worker."""
    worker = get_worker_info()
    with warnings.catch_warnings():
        if worker is not None and worker.id > 0:
            warnings.simplefilter('ignore')
        return mask_grid(input_hw, patch_size)
