"""Feature maps are found in networks that nobody described."""

import mmpretrain.models  # noqa: F401
import pytest
import torch
import torchvision
from mmpretrain.registry import MODELS
from torch import nn

from a2mim_mm.backbones.sites import as_map, blocks, survey, tapped
from a2mim_mm.backbones.token_layout import guess_layout

RESNET18 = [f'layer{stage}.{block}' for stage in (1, 2, 3, 4) for block in (0, 1)]
ATTO = [f'stages.{stage}.{block}' for stage, depth in enumerate((2, 2, 6, 2)) for block in range(depth)]
SWIN_TINY = [
    f'stages.{stage}.blocks.{block}' for stage, depth in enumerate((2, 2, 6, 2)) for block in range(depth)
]
LAYERS = [f'layers.{layer}' for layer in range(12)]
MMPRETRAIN = [
    (dict(type='ResNet', depth=18), RESNET18, [(64, 16, 24), (512, 2, 3)]),
    (dict(type='VisionTransformer', arch='deit-tiny', img_size=(64, 96)), LAYERS, [(192, 4, 6)] * 2),
    (dict(type='SwinTransformer', arch='tiny', pad_small_map=True), SWIN_TINY, [(96, 16, 24), (768, 2, 3)]),
    (dict(type='ConvNeXt', arch='atto'), ATTO, [(40, 16, 24), (320, 2, 3)]),
]
S3, S4 = [f's3.b{block}' for block in range(1, 5)], [f's4.b{block}' for block in range(1, 8)]
TIMM = [
    ('vit_tiny_patch16_224', [f'blocks.{block}' for block in range(12)], 64),
    ('deit_tiny_distilled_patch16_224', [f'blocks.{block}' for block in range(12)], 64),
    ('swin_tiny_patch4_window7_224', [name.replace('stages', 'layers') for name in SWIN_TINY], 224),
    ('regnety_002', ['s1', 's2', *S3, *S4], None),  # its blocks stand in no container
    ('vgg11', [f'features.{layer}' for layer in (0, 3, 6, 8, 11, 13, 16, 18)], None),  # it has none
]


def shapes(network, sites, image):
    """Shape (C, h, w) of the map at each site."""
    found = {}
    with (
        torch.no_grad(),
        tapped(network, sites, image.shape, lambda site, feat: found.update({site: feat.shape[1:]})),
    ):
        network(image)
    return [tuple(found[site]) for site in sites]


@pytest.mark.parametrize('config, names, ends', MMPRETRAIN, ids=[case[0]['type'] for case in MMPRETRAIN])
def test_blocks_of_mmpretrain(config, names, ends):
    network, image = MODELS.build(config), torch.rand(2, 3, 64, 96)
    network.eval()
    assert survey(network, tuple(image.shape[2:])).blocks == tuple(names)
    maps = shapes(network, names, image)
    assert [maps[0], maps[-1]] == ends


@pytest.mark.parametrize('name, names, img_size', TIMM, ids=[case[0] for case in TIMM])
def test_blocks_of_timm(name, names, img_size):
    timm = pytest.importorskip('timm')
    network = timm.create_model(name, **(dict(img_size=img_size) if img_size else {}))
    network.eval()
    image = torch.rand(1, 3, img_size or 64, img_size or 64)
    assert list(survey(network, tuple(image.shape[2:])).blocks) == names
    maps = shapes(network, names, image)
    assert all(height == width > 1 for _, height, width in maps)


def test_blocks_of_torchvision():
    network = torchvision.models.resnet18()
    assert list(survey(network, (64, 64)).blocks) == RESNET18


class Block(nn.Module):
    """Two convolutions; gives what `wrap` makes of the map."""

    def __init__(self, wrap=lambda feat: feat):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.wrap = wrap

    def forward(self, feat):
        return self.wrap(feat + self.second(self.first(feat)))


class Toy(nn.Module):
    """Registers its blocks in another order than it runs them; some are no sites."""

    def __init__(self):
        super().__init__()
        self.late = nn.ModuleList([Block()])
        self.early = nn.ModuleList([Block(), Block()])
        self.twice, self.never = nn.ModuleList([Block()]), nn.ModuleList([Block()])
        self.flat = nn.ModuleList([Block(lambda feat: feat.mean((2, 3)))])
        self.pooled = nn.ModuleList([Block(lambda feat: feat.mean((2, 3), keepdim=True))])

    def forward(self, feat):
        for block in self.early:
            feat = block(feat)
        feat = self.twice[0](self.twice[0](feat))
        self.flat[0](feat)
        self.pooled[0](feat)
        return self.late[0](feat)


def test_sites_come_in_the_order_in_which_they_run():
    image = torch.rand(1, 3, 4, 4)
    network = Toy()
    assert len(blocks(network)) == 7
    assert list(survey(network, tuple(image.shape[2:])).blocks) == ['early.0', 'early.1', 'late.0']
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    'site, words',
    [
        ('twice.0', r'run once.*twice\.0 \(2 times\)'),
        ('never.0', r'run once.*never\.0 \(0 times\)'),
        ('flat.0', r'site flat\.0 is not a map with more than one position: \(1, 3\)'),
        ('pooled.0', r'site pooled\.0 is not a map'),
        ('absent', r'this Toy has no site absent; it is made of late, early'),
    ],
)
def test_named_sites_have_to_be_maps(site, words):
    network, image = Toy(), torch.rand(1, 3, 4, 4)
    with pytest.raises(ValueError, match=words), tapped(network, [site], image.shape, lambda *args: None):
        network(image)
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_without_maps():
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    with pytest.raises(ValueError, match='no block of Sequential gives a feature map.*it has no blocks'):
        survey(network, (4, 4))


@pytest.mark.parametrize('size', [(4, 4), (3, 5), (6, 4)])
def test_maps_of_all_layouts(size):
    image = (2, 3, 16 * size[0], 16 * size[1])
    feat = torch.rand(2, 7, *size)
    tokens = feat.flatten(2).transpose(1, 2)
    assert torch.equal(as_map(feat, image), feat)
    assert torch.equal(as_map((feat, 'more'), image), feat)
    assert torch.equal(as_map(feat.permute(0, 2, 3, 1), image), feat)
    for extra in (0, 1, 2, 5, 8):
        with_extra = torch.cat([torch.full((2, extra, 7), 9.0), tokens], dim=1)
        assert torch.equal(as_map([with_extra], image), feat)


@pytest.mark.parametrize(
    'output',
    [
        None,
        'text',
        (),
        torch.rand(2, 10),
        torch.rand(8, 7, 4, 4),  # of another number of images
        torch.rand(8, 16, 7),
        torch.rand(2, 7, 4, 5),
        torch.zeros(2, 7, 4, 4, dtype=torch.long),
        torch.rand(2, 7, 2, 4, 4),
        dict(a=torch.rand(2, 7, 4, 4)),
    ],
)
def test_what_is_no_map(output):
    assert as_map(output, (2, 3, 64, 64)) is None


@pytest.mark.parametrize('height, width', [(7, 10), (8, 10), (7, 9)])
def test_maps_whose_rounding_is_not_that_of_the_image(height, width):
    assert as_map(torch.rand(1, 5, height, width), (1, 3, 225, 300)) is not None
    assert as_map(torch.rand(1, 5, height, width), (1, 3, 300, 225)) is None


def test_a_map_whose_sides_divide_the_image_is_preferred():
    """(4, 6) and (6, 9) both have the proportions of the image, but no stride gives 6 of 128 rows."""
    assert guess_layout((2, 4, 6, 9), (128, 192)) == 'bhwc'
    assert guess_layout((2, 9, 4, 6), (128, 192)) == 'bchw'
