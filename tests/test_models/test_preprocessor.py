"""Normalising images of any number of channels, for pre-training and for segmentation."""

import pytest
import torch
from mmengine.registry import MODELS

from a2mim_mm.models import channels_preprocessor


@pytest.mark.parametrize('channels', [1, 4, 13])
def test_each_channel_has_its_mean_and_std(channels):
    mean, std = torch.arange(1.0, channels + 1), torch.arange(2.0, channels + 2)
    config = dict(type='a2mim_mm.ChannelsPreprocessor', mean=mean.tolist(), std=std.tolist())
    images = torch.randn(2, channels, 4, 4)
    found = MODELS.build(config)(dict(inputs=images, data_samples=None))['inputs']
    expected = (images - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('mean, std', [([1.0], [1.0, 1.0]), ([], []), ([0.0], [0.0])])
def test_wrong_numbers_are_named(mean, std):
    with pytest.raises(ValueError, match='a mean and a positive std a channel'):
        channels_preprocessor(mean, std)
