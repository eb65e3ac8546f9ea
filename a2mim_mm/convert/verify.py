"""The proof of a conversion: the same images through the networks of both sides."""

import torch
from torch import Tensor, nn

from .encoder import ConversionError, Encoder
from .naming import Peer

TOLERANCE = 1e-5  # of the largest difference over the largest value, in float64
ONNX_TOLERANCE = 1e-4  # the same in float32
_IMAGES = 2
_CNN_SIZE = 224


@torch.no_grad()
def features_of(peer: nn.Module, encoder: Encoder, dtype: torch.dtype) -> Tensor:
    """Features of the example images by a network.

    Args:
        peer: A :class:`Peer`.
        encoder: The pivot, for size and channels of the images.
        dtype: Of images and network.
    """
    return peer.to(dtype).eval().features(example_images(encoder, dtype))


def compare(expected: Tensor, actual: Tensor, tolerance: float) -> float:
    """The relative difference of features.

    Raises:
        ConversionError: If it is above the tolerance, or not a number.
    """
    difference = relative_difference(expected, actual)
    if not difference <= tolerance:
        raise ConversionError(
            f'nothing is written: the two networks differ by {difference:.2e} of the largest value, more '
            f'than {tolerance:.0e}'
        )
    return difference


def example_images(encoder: Encoder, dtype: torch.dtype) -> Tensor:
    """Images (2, channels, H, W) in the size of the encoder: noise with a fixed seed."""
    size = encoder.cfg.get('img_size', _CNN_SIZE)
    size_hw = (size, size) if isinstance(size, int) else tuple(size)
    image_chw = encoder.own.image_chw if encoder.own else (encoder.cfg.get('in_channels', 3), *size_hw)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(_IMAGES, *image_chw, generator=generator, dtype=torch.float64)
    return images.to(dtype)


@torch.no_grad()
def relative_difference(first: Tensor, second: Tensor) -> float:
    """max|a - b| / max|a|; inf if the shapes differ, nan if a number is not finite."""
    if first.shape != second.shape:
        return float('inf')
    first, second = first.double(), second.double()
    return ((first - second).abs().max() / first.abs().max()).item()


def of_pivot(encoder: Encoder) -> nn.Module:
    """The network of a pivot (ViT or ResNet) as a :class:`Peer`."""
    network = encoder.build()
    return Peer(network, lambda image: network(image)[-1])
