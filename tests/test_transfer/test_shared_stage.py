"""ResLayerExtraNorm against the stages whose weights it takes."""

import pytest
import torch
import torchvision
from mmpretrain.models import ResNet
from torch import nn

from a2mim_mm.registry import MODELS


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build(**kwargs):
    return MODELS.build(dict(type='a2mim_mm.ResLayerExtraNorm', **kwargs))


def randomise_norms(module):
    """Statistics too: norms that do nothing hide mistakes."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return module


def names(module):
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize('train', [False, True])
def test_layer4_is_the_backbones(train):
    backbone, head = randomise_norms(ResNet(18, norm_eval=False)), build(depth=18)
    backbone.train(train)
    head.train(train)
    weights = {k: v for k, v in backbone.state_dict().items() if k.startswith('layer4.')}
    result = head.load_state_dict(weights, strict=False)
    assert not result.unexpected_keys and all(key.startswith('norm.') for key in result.missing_keys)
    regions = torch.randn(3, 256, 6, 4)
    out = head.layer4(regions)
    assert out.shape == (3, 512, 3, 2)
    assert torch.equal(out, backbone.layer4(regions))
    for ours, theirs in zip(head.layer4.buffers(), backbone.layer4.buffers(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('train', [False, True])
def test_the_extra_norm_comes_last(train):
    head = randomise_norms(build(depth=18).double()).train(train)
    regions = torch.randn(3, 256, 6, 4, dtype=torch.float64)
    mean, var = head.norm.running_mean.clone(), head.norm.running_var.clone()
    out, feat = head(regions), head.layer4(regions)
    if train:
        mean, var = feat.mean(dim=(0, 2, 3)), feat.var(dim=(0, 2, 3), correction=0)
    mean, var, weight, bias = (x[:, None, None] for x in (mean, var, head.norm.weight, head.norm.bias))
    torch.testing.assert_close(out, (feat - mean) / (var + 1e-5).sqrt() * weight + bias)


@pytest.mark.parametrize('depth', [34, 50])
def test_names_are_the_backbones(depth):
    with torch.device('meta'):
        ours = names(build(depth=depth).layer4)
        assert ours == names(getattr(torchvision.models, f'resnet{depth}')().layer4)
        assert depth != 50 or ours == names(build().layer4)  # the default


def test_names_are_mmdets():
    pytest.importorskip('mmcv._ext', reason='mmdet needs the compiled ops of mmcv')
    pytest.importorskip('mmdet')
    from mmdet.models.roi_heads.shared_heads.res_layer import ResLayer

    with torch.device('meta'):
        ours, theirs = names(build()), names(ResLayer(50))
    assert theirs.items() <= ours.items()
    extra = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
    assert set(ours) - set(theirs) == {f'norm.{name}' for name in extra}


@pytest.mark.parametrize(('style', 'strides'), [({}, (1, 2)), (dict(style='caffe'), (2, 1))])
def test_style_says_which_convolution_has_the_stride(style, strides):
    with torch.device('meta'):
        block = build(**style).layer4[0]
    assert (block.conv1.stride, block.conv2.stride) == tuple((stride, stride) for stride in strides)
    assert block.conv1.kernel_size == (1, 1) and block.downsample[0].stride == (2, 2)


def test_norm_cfg_is_that_of_all_norms():
    head = build(depth=18, norm_cfg=dict(type='GN', num_groups=2))
    norms = [module for module in head.modules() if isinstance(module, nn.GroupNorm | nn.BatchNorm2d)]
    assert [type(norm) for norm in norms] == [nn.GroupNorm] * (2 * 2 + 1 + 1)  # blocks, shortcut, extra


def test_initial_values():
    """As mmpretrain's ResNet: normally distributed with variance 2 / fan out; norms do nothing."""
    head = randomise_norms(build(depth=18))
    head.init_weights()
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and not module.bias.any()


@pytest.mark.parametrize('depth', [0, 51, '50', None])
def test_refuses_a_depth(depth):
    with pytest.raises(ValueError, match=rf'depth is {depth!r}; allowed: \[18, 34, 50, 101, 152\]'):
        build(depth=depth)
