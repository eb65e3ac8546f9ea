"""The decoder, and an A2MIM whose images have any number of channels."""

import pytest
import torch
from helpers.algorithms import BOTH, PARTS, build
from mmpretrain.models.necks import SimMIMLinearDecoder
from mmpretrain.structures import DataSample
from torch import nn

from a2mim_mm.backbones.dry_run import image_channels
from a2mim_mm.errors import InputError
from a2mim_mm.models import A2MIM, LinearDecoder


def test_of_rgb_it_is_the_decoder_of_mmpretrain():
    torch.manual_seed(0)
    expected = SimMIMLinearDecoder(5, 4).state_dict()
    torch.manual_seed(0)
    own = LinearDecoder(5, 4).state_dict()
    assert [*own] == [*expected]
    assert all(torch.equal(own[name], expected[name]) for name in own)


def with_channels(name, channels, **changes):
    """A small A2MIM for images of so many channels, with the default parts."""
    backbone = dict(PARTS[name]['backbone'], in_channels=channels)
    return build(
        name, backbone=backbone, neck=dict(type='a2mim_mm.LinearDecoder'), image_size=(64, 96), **changes
    )


@BOTH
@pytest.mark.parametrize('channels', [1, 4, 13])
def test_decoder_and_loss_follow_the_backbone(name, channels):
    model = with_channels(name, channels)
    width, stride = PARTS[name]['neck']['in_channels'], PARTS[name]['neck']['encoder_stride']
    assert model.in_channels == channels
    assert f'decoder {width} -> {channels} x {stride} x {stride}' in model.found
    img_bchw = torch.randn(2, channels, 64, 96)
    losses = model.loss([img_bchw], [DataSample(mask_seed=seed) for seed in (1, 2)])
    sum(losses.values()).backward()
    assert model.neck.decoder[0].weight.grad.abs().sum() > 0


def test_the_first_convolution_tells_the_channels():
    assert image_channels(nn.Sequential(nn.Conv2d(8, 8, 3, groups=4), nn.Conv2d(8, 2, 1))) == 8
    assert image_channels(nn.Linear(2, 2)) == 3


def test_a_number_of_channels_has_the_last_word():
    class Rearranging(nn.Module):
        """Its convolution sees 12 channels of images with 3."""

        def __init__(self):
            super().__init__()
            self.fold = nn.PixelUnshuffle(2)
            self.blocks = nn.Sequential(*[nn.Conv2d(12, 12, 2, 2) for _ in range(3)])

        def forward(self, img_bchw):
            return self.blocks(self.fold(img_bchw))

    model = A2MIM(Rearranging(), mask_token=None, image_size=32, in_channels=3)
    assert model.found == 'decoder 12 -> 3 x 16 x 16'


def test_another_decoder_or_loss_is_refused():
    rgb = dict(PARTS['resnet']['neck'])
    four = dict(PARTS['resnet']['backbone'], in_channels=4)
    with pytest.raises(InputError, match=r"neck, a SimMIMLinearDecoder, is for 3 .*'a2mim_mm.LinearDecoder'"):
        build('resnet', backbone=four, neck=rgb)
    loss = dict(type='mmpretrain.PixelReconstructionLoss', criterion='L1', channel=3)
    with pytest.raises(InputError, match=r"head.loss_spa, .* is for 3 channels, .* of 4: .*L1Loss'"):
        with_channels('resnet', 4, head=dict(type='a2mim_mm.A2MIMHead', loss_spa=loss))
