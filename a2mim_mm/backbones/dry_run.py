"""Runs a network for the shapes of its features: without storage, and without a trace in the network."""

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from a2mim_mm.errors import InputError

Result = TypeVar('Result')


def dry_run(
    network: nn.Module, shape: tuple[int, ...], look: Callable[[nn.Module, Tensor], Result]
) -> Result:
    """What ``look(twin, images)`` returns, for a twin of the network in evaluation mode and empty images.

    The tensors of twin and images have shapes but no storage. A network that reads numbers off its features
    cannot run like this: it is copied and run.

    Args:
        network: The network. Neither its state nor random numbers change.
        shape: Shape of the images, (B, C, H, W).
        look: Calls the twin. It may be called twice.

    Raises:
        ValueError: If the network fails on such images.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device('cpu'))
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with _same_random_numbers():
        try:
            twin = _twin(network, fake.from_tensor)  # outside of the mode, which cannot copy other tensors
            with fake:
                return look(twin, torch.empty(shape, device=device))
        except InputError:
            raise
        except Exception:  # whatever a network does with numbers: .item(), numpy, its own operators
            try:
                return look(_twin(network, torch.clone), torch.zeros(shape, device=device))
            except InputError:
                raise
            except Exception as error:
                raise InputError(
                    f'{type(network).__name__} fails on images of shape {shape}: '
                    f'{type(error).__name__}: {error}'
                ) from error


def _twin(network: nn.Module, copy_tensor: Callable[[Tensor], Tensor]) -> nn.Module:
    tensors = [*network.parameters(), *network.buffers()]
    twin = copy.deepcopy(network, {id(tensor): copy_tensor(tensor) for tensor in tensors})
    twin.eval()
    return twin


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def image_channels(network: nn.Module) -> int:
    """Number of channels of the images that a network takes, as far as it tells; or else 3.

    It is the attribute ``in_chans``, as :func:`.timm_backbone` sets it, or what the first convolution takes.
    Where that one sees rearranged pixels instead of the image, nothing tells: name the number.
    """
    if isinstance(getattr(network, 'in_chans', None), int):
        return network.in_chans
    convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    return next((module.weight.shape[1] * module.groups for module in convolutions), 3)


def input_size(network: nn.Module) -> tuple[int, int]:
    """Height and width of the images of a network: the size that it is built for, or else 224.

    It is read off the attributes that ViTs, Swin and networks of torchvision and timm have.
    """
    for holder in (network, getattr(network, 'patch_embed', None)):
        for name in ('img_size', 'image_size', 'init_input_size'):
            size = getattr(holder, name, None)
            if isinstance(size, int):
                return size, size
            if isinstance(size, (tuple, list)) and len(size) == 2:
                return tuple(size)
    return 224, 224
