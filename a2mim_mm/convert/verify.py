"""The proof of a conversion: the same images through the networks of both sides."""

import torch
from torch import Tensor, nn

from .encoder import ConversionError, Encoder
from .naming import Naming, Peer, Weights

TOLERANCE = 1e-5  # of the largest difference over the largest value, in float64
ONNX_TOLERANCE = 1e-4  # the same in float32
_IMAGES = 2
_CNN_SIZE = 224


def reference(naming: Naming, cfg: dict, weights: Weights, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The library's own network with these weights, as a :class:`Peer`.

    Raises:
        LibraryMissing: If the library is not installed.
    """
    return naming.peer(cfg, weights).to(dtype).eval()


def example_images(cfg: dict, dtype: torch.dtype = torch.float64, count: int = _IMAGES) -> Tensor:
    """Images (count, channels, H, W) of the size the encoder is for, noise of fixed seed."""
    size = cfg.get('img_size', _CNN_SIZE)
    size_hw = (size, size) if isinstance(size, int) else tuple(size)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, cfg.get('in_channels', 3), *size_hw, generator=generator, dtype=torch.float64)
    return images.to(dtype)


@torch.no_grad()
def relative_difference(first: Tensor, second: Tensor) -> float:
    """max|a - b| / max|a|; inf where the shapes differ, nan where a number is not finite."""
    if first.shape != second.shape:
        return float('inf')
    first, second = first.double(), second.double()
    return ((first - second).abs().max() / first.abs().max()).item()


def check_difference(difference: float, tolerance: float, sides: str) -> None:
    """Refuse a conversion that changes what the network computes.

    Raises:
        ConversionError: If the difference is above the tolerance, or no number.
    """
    if not difference <= tolerance:
        raise ConversionError(
            f'nothing is written: {sides} differ by {difference:.2e} of the largest value, more than '
            f'{tolerance:.0e}'
        )


def of_pivot(encoder: Encoder, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The pivot's own network as a :class:`Peer`."""
    network = encoder.build(dtype)
    return Peer(network, lambda image: network(image)[-1])
