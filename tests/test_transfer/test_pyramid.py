"""ViTPyramid: sizes, and values against the formulas of its layers."""

import math

import pytest
import torch
from torch import nn

from a2mim_mm.registry import MODELS
from a2mim_mm.transfer.pyramid import ViTPyramid

CHANNELS = 4
NORM = dict(type='GN', num_groups=2)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build(patch_size=16, channels=CHANNELS, norm_cfg=NORM):
    neck = MODELS.build(
        dict(type='a2mim_mm.ViTPyramid', channels=channels, patch_size=patch_size, norm_cfg=norm_cfg)
    ).double()
    for param in neck.parameters():
        nn.init.normal_(param)
    return neck


def features(grid_hw, batch=2, channels=CHANNELS):
    return [torch.randn(batch, channels, *grid_hw, dtype=torch.float64) for _ in range(4)]


@pytest.mark.parametrize('grid_hw', [(5, 7), (6, 4), (9, 1)])
@pytest.mark.parametrize('patch_size', [4, 8, 16, 32])
def test_strides_are_4_8_16_32(patch_size, grid_hw):
    h, w = (patch_size * side for side in grid_hw)  # of the image, in pixels
    outs = build(patch_size)(features(grid_hw))
    assert [out.shape for out in outs] == [
        (2, CHANNELS, math.ceil(h / stride), math.ceil(w / stride)) for stride in (4, 8, 16, 32)
    ]


@pytest.mark.parametrize(('patch_size', 'level'), [(4, 0), (8, 1), (16, 2), (32, 3)])
def test_the_level_of_the_patches_is_left_alone(patch_size, level):
    feats = features((5, 7))
    assert torch.equal(build(patch_size)(feats)[level], feats[level])


@pytest.mark.parametrize(('patch_size', 'level', 'factor'), [(16, 3, 2), (8, 3, 4), (4, 3, 8), (4, 1, 2)])
def test_smaller_maps_hold_the_largest_value_of_each_square(patch_size, level, factor):
    feats = features((5, 7))
    out = build(patch_size)(feats)[level]
    for y in range(out.shape[2]):
        for x in range(out.shape[3]):
            square = feats[level][:, :, factor * y : factor * (y + 1), factor * x : factor * (x + 1)]
            assert torch.equal(out[:, :, y, x], square.amax(dim=(2, 3)))


def twice(conv, feat):
    """Each pixel (y, x) becomes the four (2y + i, 2x + j), by a matrix W[:, :, i, j] of its own for each."""
    b, _, h, w = feat.shape
    out = torch.empty(b, conv.weight.shape[1], 2 * h, 2 * w, dtype=feat.dtype)
    for i in range(2):
        for j in range(2):
            pixels = torch.einsum('bchw,co->bohw', feat, conv.weight[:, :, i, j])
            out[:, :, i::2, j::2] = pixels + conv.bias[:, None, None]
    return out


def normed_gelu(norm, feat):
    """Mean 0 and variance 1 of each of two groups of channels of an image, scaled, shifted; then GELU."""
    groups = feat.unflatten(1, (2, -1))
    centred = groups - groups.mean(dim=(2, 3, 4), keepdim=True)
    out = (centred / (centred.square().mean(dim=(2, 3, 4), keepdim=True) + 1e-5).sqrt()).flatten(1, 2)
    out = out * norm.weight[:, None, None] + norm.bias[:, None, None]
    return out * (1 + torch.erf(out / math.sqrt(2))) / 2


@pytest.mark.parametrize(
    ('patch_size', 'level', 'times'), [(8, 0, 1), (16, 0, 2), (16, 1, 1), (32, 0, 3), (32, 1, 2), (32, 2, 1)]
)
def test_larger_maps_equal_the_formula(patch_size, level, times):
    neck, feats = build(patch_size), features((3, 2))
    convs = [layer for layer in neck.levels[level] if isinstance(layer, nn.ConvTranspose2d)]
    norms = [layer for layer in neck.levels[level] if isinstance(layer, nn.GroupNorm)]
    assert (len(convs), len(norms)) == (times, times - 1)
    expected = twice(convs[0], feats[level])
    for norm, conv in zip(norms, convs[1:], strict=True):
        expected = twice(conv, normed_gelu(norm, expected))
    torch.testing.assert_close(neck(feats)[level], expected)


def test_norm_cfg_is_used():
    def norms(**kwargs):
        return [
            m for m in ViTPyramid(64, 32, **kwargs).modules() if isinstance(m, nn.GroupNorm | nn.BatchNorm2d)
        ]

    assert [type(norm) for norm in norms(norm_cfg=dict(type='BN'))] == [nn.BatchNorm2d] * 3
    assert [norm.num_groups for norm in norms(norm_cfg=dict(type='GN', num_groups=8))] == [8] * 3
    assert [norm.num_groups for norm in norms()] == [32] * 3


@pytest.mark.parametrize(('patch_size', 'count'), [(4, 0), (8, 2), (16, 8), (32, 18)])
def test_gradient_reaches_every_parameter_and_feature(patch_size, count):
    neck, feats = build(patch_size), [feat.requires_grad_() for feat in features((3, 2))]
    sum(out.square().sum() for out in neck(feats)).backward()
    assert all(feat.grad.any() for feat in feats)
    assert len(list(neck.parameters())) == count
    for name, param in neck.named_parameters():
        assert param.grad is not None and param.grad.any(), name


@pytest.mark.parametrize('patch_size', [0, 2, 14, 64, '16', None])
def test_refuses_a_patch_size(patch_size):
    with pytest.raises(ValueError, match=rf'patch_size is {patch_size!r}; allowed: \(4, 8, 16, 32\)'):
        ViTPyramid(CHANNELS, patch_size, NORM)


@pytest.mark.parametrize('count', [0, 1, 3, 5])
def test_refuses_another_number_of_features(count):
    with pytest.raises(ValueError, match=f'{count} features; allowed: 4'):
        build()((2 * features((3, 2)))[:count])
