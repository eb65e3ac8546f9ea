"""Transforms of the pre-training pipeline that mmcv and mmpretrain do not have."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio

from a2mim_mm.errors import InputError
from a2mim_mm.registry import TRANSFORMS

from .decoding import UnreadableImageError, decode_image
from .depth import decode_deep


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Reads an image with :func:`decode_image`, which refuses a file rather than returning a wrong picture.

    **Required keys:** ``img_path``.
    **Added keys:** ``img`` (BGR, uint8 (H, W, 3)), ``img_shape`` and ``ori_shape`` (H, W).

    Args:
        strict: False accepts JPEGs with oddities that some cameras write; see :func:`decode_image`.
        bits: Number of bits that images of 16 bits a channel really use, 8 to 16; by default all.
        backend_args: Arguments of mmengine's file backend, which by default follows from the path.
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
class MaskSeed(BaseTransform):
    """Gives a sample the seed that the model draws its mask from.

    **Added keys:** ``mask_seed``, an integer in [0, 2^32). It comes from numpy's global generator, which
    :func:`~a2mim_mm.data.seeded` seeds from the key of the sample.
    """

    def transform(self, results: dict) -> dict:
        """Add the seed."""
        results['mask_seed'] = int(np.random.randint(1 << 32))
        return results
