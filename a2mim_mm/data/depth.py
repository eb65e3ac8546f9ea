"""Images of 16 bits a channel. Cameras and scanners often fill only 10, 12 or 14 of them."""

import logging

import cv2
import numpy as np
from mmengine.logging import print_log

from .decoding import UnreadableImageError

_ENDINGS = ('.png', '.tif', '.tiff', '.pgm', '.ppm', '.pnm', '.jp2')
_LOOKED_AT = 8


def decode_deep(data: bytes, bits: int) -> np.ndarray | None:
    """Decode an image of 16 bits whose values are below ``2 ** bits``.

    Args:
        data: Content of the file.
        bits: Number of bits that are used, 8 to 16.

    Returns:
        BGR image, uint8 (height, width, 3), the upper 8 of these bits; None for a file of 8 bits.

    Raises:
        UnreadableImageError: If a value needs more bits.
    """
    image = _sixteen_bits(data)
    if image is None:
        return None
    if int(image.max()) >> bits:
        raise UnreadableImageError(
            f'values up to {image.max()} do not fit into {bits} bits, which LoadImage has'
        )
    image = (image >> (bits - 8)).astype(np.uint8)
    return np.ascontiguousarray(image[:, :, :3] if image.ndim == 3 else np.stack([image] * 3, axis=2))


def warn_of_unused_bits(paths: list[str]) -> None:
    """Look at some images, and log a warning if images of 16 bits leave the upper ones unused."""
    used = []
    paths = [path for path in paths if path.lower().endswith(_ENDINGS)]
    for place in np.linspace(0, len(paths) - 1, min(len(paths), _LOOKED_AT)).astype(int):
        with open(paths[place], 'rb') as file:
            image = _sixteen_bits(file.read())
        if image is not None:
            used.append(int(image.max()).bit_length())
    if used and max(used) < 15:
        print_log(
            f'{len(used)} images of 16 bits, such as {paths[0]}, use only {max(used)} bits and look black: '
            f"write dict(type='a2mim_mm.LoadImage', bits={max(8, max(used))}) in the pipelines",
            logger='current',
            level=logging.WARNING,
        )


def _sixteen_bits(data: bytes) -> np.ndarray | None:
    """The values of an image of 16 bits a channel, (H, W) or (H, W, C) in BGR order; None for others."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    return image if image is not None and image.dtype == np.uint16 else None
