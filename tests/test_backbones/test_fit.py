"""What a config leaves out is found, in networks that nobody described."""

import pytest
import torch
import torchvision
from helpers.algorithms import batch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from a2mim_mm.backbones.sites import survey
from a2mim_mm.models import A2MIM


class Unit(nn.Module):
    """A residual block on maps, channels-last maps or tokens."""

    def __init__(self, width, layout):
        super().__init__()
        kind = nn.Linear if layout != 'bchw' else lambda a, b: nn.Conv2d(a, b, 1)
        self.one, self.two = kind(width, width), kind(width, width)

    def forward(self, feat):
        return feat + self.two(self.one(feat).relu())


class Stage(nn.Module):
    """Halves the map, or not; gives its blocks one layout."""

    def __init__(self, width_in, width, stride, depth, layout, extra):
        super().__init__()
        self.down = nn.Conv2d(width_in, width, stride, stride)
        self.units = nn.Sequential(*[Unit(width, layout) for _ in range(depth)])
        self.layout, self.extra = layout, extra

    def forward(self, feat_bchw):
        feat_bchw = self.down(feat_bchw)
        if self.layout == 'bchw':
            return self.units(feat_bchw)
        if self.layout == 'bhwc':
            return self.units(feat_bchw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        tokens = feat_bchw.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.new_ones(len(tokens), self.extra, tokens.shape[2]), tokens], dim=1)
        tokens = self.units(tokens)[:, self.extra :]
        return tokens.transpose(1, 2).unflatten(2, feat_bchw.shape[2:])


STAGES = st.lists(
    st.tuples(
        st.sampled_from([5, 9, 11, 24]),  # widths that do not occur as a side of a map
        st.sampled_from([1, 2, 4]),
        st.integers(1, 4),
        st.sampled_from(['bchw', 'bhwc', 'blc']),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=5,
).filter(lambda stages: 2 <= torch.tensor([stage[1] for stage in stages]).prod() <= 32)


@settings(max_examples=40, deadline=None)
@given(STAGES, st.sampled_from([(128, 128), (128, 192), (96, 64)]))
def test_sites_of_random_networks(stages, size_hw):
    widths = [3] + [stage[0] for stage in stages]
    network = nn.Sequential(*[Stage(widths[index], *stage) for index, stage in enumerate(stages)])
    found = survey(network, size_hw)

    strides = torch.tensor([stage[1] for stage in stages]).cumprod(0).tolist()
    expected = [
        (f'{index}.units.{unit}', layout if layout != 'blc' else f'blc+{extra}', width, stride)
        for index, (stride, (width, _, depth, layout, extra)) in enumerate(zip(strides, stages, strict=True))
        for unit in range(depth)
    ]
    sites = [found.sites[name] for name in found.blocks]
    assert [(site.name, site.layout, site.channels, site.stride) for site in sites] == expected

    # The rule, by counting: the last block at stride 16 or the nearest below, or else above; in networks that
    # end there, the one at two thirds.
    stride = max((s for s in strides if s <= 16), default=min(strides))
    at_stride = [name for name, *_, s in expected if s == stride]
    ends = stride == strides[-1]
    block = at_stride[max(0, round(len(at_stride) * 2 / 3) - 1)] if ends else at_stride[-1]
    token_site = found.token_site()
    assert block == token_site.name or block.startswith(token_site.name + '.')
    assert (
        token_site.stride == stride and token_site.channels == dict((n, c) for n, _, c, _ in expected)[block]
    )
    assert (found.output.channels, found.output.stride) == (widths[-1], strides[-1])


VIT = dict(type='a2mim_mm.A2MIMViT', img_size=224, patch_size=16, out_type='featmap')
RULE = [
    (
        dict(type='mmpretrain.ResNet', depth=50),
        {},
        'layer3 (stride 16, 1024 channels); decoder 2048 -> 3 x 32 x 32',
    ),
    (dict(VIT, arch='deit-base'), {}, 'layers.7 (stride 16, 768 channels); decoder 768 -> 3 x 16 x 16'),
    (  # blocks end at stride 16, and the network at 32: behind a pooling
        dict(type='mmpretrain.VGG', depth=11),
        {},
        'features.11 (stride 16, 512 channels); decoder 512 -> 3 x 32 x 32',
    ),
    # nothing at stride 16, nothing at or below 16, and a mask patch of 8
    (
        dict(
            type='mmpretrain.ResNet',
            depth=18,
            num_stages=2,
            strides=(1, 2),
            dilations=(1, 1),
            out_indices=(1,),
        ),
        {},
        'layer2.0 (stride 8, 128 channels); decoder 128 -> 3 x 8 x 8',
    ),
    (
        dict(VIT, arch='deit-tiny', patch_size=32),
        {},
        'layers.7 (stride 32, 192 channels); decoder 192 -> 3 x 32 x 32',
    ),
    (
        dict(type='mmpretrain.ResNet', depth=18),
        dict(mask=dict(type='a2mim_mm.RandomPatchMask', patch_size=8)),
        'layer2 (stride 8, 128 channels); decoder 512 -> 3 x 32 x 32',
    ),
]


@pytest.mark.parametrize('backbone, options, found', RULE, ids=range(len(RULE)))
def test_the_rule_gives_the_sites_of_the_paper(backbone, options, found):
    assert A2MIM(backbone, **options).found == f'token added after {found}'


@pytest.mark.parametrize(
    'wrap', [lambda f: [f * 0, f], lambda f: f.permute(0, 2, 3, 1), lambda f: f.flatten(2).mT]
)
def test_a_module_in_python_with_an_output_of_any_layout(wrap):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(*list(torchvision.models.resnet18().children())[:-2])

        def forward(self, images):
            return wrap(self.body(images))

    model = A2MIM(Net())
    assert model.found == 'token added after body.6 (stride 16, 256 channels); decoder 512 -> 3 x 32 x 32'
    sum(model.loss(*batch(2, (128, 128))).values()).backward()
    assert model.mask_token.token.grad.abs().sum() > 0


def test_what_the_config_says_is_kept():
    token = dict(type='a2mim_mm.MaskToken', site='layer2')
    neck = dict(type='mmpretrain.SimMIMLinearDecoder', in_channels=512)
    model = A2MIM(dict(type='mmpretrain.ResNet', depth=18), neck=neck, mask_token=token)
    assert model.found == 'token added after layer2 (stride 8, 128 channels); decoder 512 -> 3 x 32 x 32'
    token.update(channels=128)
    neck.update(encoder_stride=32)
    assert A2MIM(dict(type='mmpretrain.ResNet', depth=18), neck=neck, mask_token=token).found == ''


def test_no_token():
    model = A2MIM(dict(type='mmpretrain.ResNet', depth=18), mask_token=None)
    assert model.found == 'decoder 512 -> 3 x 32 x 32' and model.mask_token is None


class Permuted(nn.Module):
    """Maps (B, h, C, w) at every site: no layout that is known."""

    def __init__(self):
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 5, 16, 16), nn.ModuleList([Unit(14, 'bhwc')])

    def forward(self, images):
        return self.blocks[0](self.stem(images).permute(0, 2, 1, 3))


@pytest.mark.parametrize(
    'backbone, options, words',
    [
        (Permuted(), {}, r'Permuted gives a feature map.*blocks\.0 \(2, 14, 5, 14\).*neck \(in_channels'),
        (torchvision.models.resnet18(), {}, r'last output of ResNet is \(2, 1000\).*leave out pooling'),
        (
            dict(type='ResNet', depth=18),
            dict(mask_token=dict(type='a2mim_mm.MaskToken', site='layr3')),
            'layer3',
        ),
        (
            dict(type='ResNet', depth=18),
            dict(mask_token=dict(type='a2mim_mm.MaskToken', site='layer3.1.relu')),
            r"relu' gives .*once in a forward pass. site='auto' finds 'layer3'",
        ),
        (
            dict(type='ResNet', depth=18),
            dict(mask_token=dict(type='a2mim_mm.MaskToken', channels=7)),
            'channels is 7, but layer3 has 256: leave it out',
        ),
        (
            dict(type='ResNet', depth=18),
            dict(image_size=100),
            'patch_size=32 does not divide the input of 100 x',
        ),
        (
            dict(type='ResNet', depth=18),
            dict(image_size=240, mask=dict(type='a2mim_mm.RandomPatchMask', patch_size=16)),
            '8 x 8 at stride 32.*256 x 256 pixels and not to the 240',
        ),
        (
            dict(VIT, arch='deit-tiny'),
            dict(image_size=(64, 72), mask=dict(type='a2mim_mm.RandomPatchMask', patch_size=8)),
            'input is 64 x 72.*A2MIM finds by itself',
        ),
    ],
    ids=['permuted', 'classifier', 'unknown site', 'no map', 'channels', 'mask', 'size', 'failure'],
)
def test_what_cannot_be_found(backbone, options, words):
    init_default_scope('mmpretrain')
    with pytest.raises(ValueError, match=words):
        A2MIM(backbone, **options)


def test_loading_a_saved_config_finds_the_same():
    cfg = dict(type='a2mim_mm.A2MIM', backbone=dict(type='mmpretrain.ResNet', depth=18))
    first, second = MODELS.build(cfg), MODELS.build(cfg)
    second.load_state_dict(first.state_dict())
    assert first.found == second.found
