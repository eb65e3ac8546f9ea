"""A dry forward leaves no trace: not in the network, not in random numbers, not in memory."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from a2mim_mm.backbones.dry_run import dry_run, input_size


class Noisy(nn.Module):
    """Draws random numbers, counts, and notes in what it saw; reads numbers off its input if told."""

    def __init__(self, reads=False):
        super().__init__()
        self.conv, self.norm, self.reads = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), reads
        self.calls, self.seen = 0, {}

    def forward(self, images):
        self.calls += 1
        self.seen['last'] = images
        random.random(), np.random.rand(), torch.rand(1)
        if self.reads and images.max().item() > 5:
            raise AssertionError
        return self.norm(self.conv(images))


@pytest.mark.parametrize('reads', [False, True])
def test_nothing_changes(reads):
    network = Noisy(reads).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    shape, training = dry_run(network, (2, 3, 8, 8), lambda twin, images: (twin(images).shape, twin.training))
    assert shape == (2, 4, 8, 8) and not training and network.training
    assert network.calls == 0 and network.seen == {}
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert random.getstate() == states[0] and (np.random.get_state()[1] == states[1]).all()
    assert torch.equal(torch.get_rng_state(), states[2])


def test_features_have_no_storage():
    """These would take 4 TB, and the network 4 GB more."""
    network = nn.Conv2d(3, 1024, 1)
    assert dry_run(network, (2, 3, 1 << 15, 1 << 14), lambda twin, images: twin(images).numel()) == 1 << 40


@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_any_tensor_of_a_network_comes_along(device):
    """Also one that is neither parameter nor buffer, on the device of the network, and without storage."""
    network = nn.Conv2d(3, 4, 1, device=device)
    network.scale = torch.full((4, 1, 1), 2.0, device=device)

    def look(twin, images):
        return type(images), images.device.type, (twin(images) * twin.scale).shape

    assert dry_run(network, (2, 3, 8, 8), look) == (FakeTensor, device, (2, 4, 8, 8))


def test_a_network_that_fails_says_why():
    with pytest.raises(ValueError, match=r'Conv2d fails on images of shape \(2, 4, 8, 8\): RuntimeError'):
        dry_run(nn.Conv2d(3, 4, 1), (2, 4, 8, 8), lambda twin, images: twin(images))


def test_the_size_that_a_network_is_built_for():
    network = nn.Module()
    assert input_size(network) == (224, 224)
    network.patch_embed = nn.Module()
    network.patch_embed.img_size = (64, 96)
    assert input_size(network) == (64, 96)
    network.image_size = 32
    assert input_size(network) == (32, 32)
