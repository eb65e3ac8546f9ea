"""Namings of ResNets, against networks of torchvision, timm and mmpretrain; other CNNs are refused."""

import pytest
import timm
import torch
import torchvision
from helpers import peers
from mmpretrain.models import ResNetV1d, SEResNet

from a2mim_mm.checkpoints.load import build_network as build_backbone
from a2mim_mm.convert import ORIGINS, ConversionError
from a2mim_mm.convert.detect import detect
from a2mim_mm.convert.formats import detectron2, openmmlab
from a2mim_mm.convert.formats import timm as timm_format
from a2mim_mm.convert.formats import torchvision as torchvision_format
from a2mim_mm.convert.naming import Hints

NAMINGS = {
    'torchvision': (torchvision_format.RESNET, peers.torchvision_resnet),
    'timm': (timm_format.RESNET, peers.timm_resnet),
    'mmpretrain': (openmmlab.RESNET, peers.mm_resnet),
}
DEPTHS = (18, 50)


def last_map(network, picture):
    """What the last stage of a library's ResNet gives."""
    if isinstance(network, torchvision.models.ResNet):
        network = torchvision.models.feature_extraction.create_feature_extractor(network, ['layer4'])
        return network(picture)['layer4']
    return peers.run(network, picture)


def by_detectron2(weights):
    """Names of torchvision as MoCo's converter to detectron2 changes them, step by step."""
    renamed = {}
    for name, tensor in weights.items():
        if 'layer' not in name:
            name = f'stem.{name}'
        for i in (1, 2, 3, 4):
            name = name.replace(f'layer{i}', f'res{i + 1}')
        for i in (1, 2, 3):
            name = name.replace(f'bn{i}', f'conv{i}.norm')
        renamed[name.replace('downsample.0', 'shortcut').replace('downsample.1', 'shortcut.norm')] = tensor
    return renamed


def shapes(weights):
    """Shapes by names."""
    return {name: tensor.shape for name, tensor in weights.items()}


@pytest.mark.parametrize('depth', DEPTHS)
@pytest.mark.parametrize('library', NAMINGS)
@torch.no_grad()
def test_the_encoder_computes_what_its_source_does(library, depth):
    naming, build = NAMINGS[library]
    network = build(depth)
    weights = peers.without_classifier(peers.weights_of(network))
    assert naming.claims(weights)
    encoder = naming.read(weights, Hints())
    assert encoder.cfg == dict(type='mmpretrain.ResNet', depth=depth) and not encoder.folded
    picture = peers.images()
    expected = last_map(network.double(), picture)
    network.float()
    ours = encoder.build(torch.float64)(picture)[-1]
    assert peers.difference(expected, ours) < 1e-9
    theirs = naming.peer(encoder.cfg, weights).double().features(picture)
    assert peers.difference(expected, theirs) < 1e-9


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('library', NAMINGS)
def test_what_is_read_is_written_back_bit_for_bit(library, dtype):
    naming, build = NAMINGS[library]
    weights = peers.without_classifier(peers.weights_of(build(18), dtype))
    written, dropped = naming.write(naming.read(weights, Hints()))
    assert peers.same_weights(written, weights) and not dropped
    assert written['bn1.num_batches_tracked'].item() == 7


@pytest.mark.parametrize('depth', DEPTHS)
@torch.no_grad()
def test_detectron2_s_names_are_those_of_moco_s_converter(depth):
    network = peers.torchvision_resnet(depth)
    weights = peers.without_classifier(peers.weights_of(network))
    theirs, naming = by_detectron2(weights), detectron2.RESNET
    assert naming.claims(theirs) and not naming.claims(weights)
    encoder = naming.read(theirs, Hints())
    assert peers.same_weights(encoder.weights, weights)
    written, dropped = naming.write(encoder)
    assert peers.same_weights(written, theirs) and not dropped
    picture = peers.images()
    features = naming.peer(encoder.cfg, theirs).double().features(picture)
    expected = last_map(network.double(), picture)
    network.float()
    assert peers.difference(expected, features) < 1e-9


def test_detectron2_s_frozen_norms_have_no_counter():
    weights = by_detectron2(peers.without_classifier(peers.weights_of(peers.torchvision_resnet(18))))
    weights = {name: tensor for name, tensor in weights.items() if not name.endswith('num_batches_tracked')}
    naming = detectron2.RESNET
    encoder = naming.read(weights, Hints())
    assert peers.same_weights(naming.write(encoder)[0], weights)
    expected = encoder.build(torch.float64)(peers.images())[-1]
    assert (
        peers.difference(expected, naming.peer(encoder.cfg, weights).double().features(peers.images())) < 1e-9
    )


@pytest.mark.parametrize('depth', [34, 101, 152, 200])
def test_all_depths_have_the_names_and_shapes_of_their_networks(depth):
    with torch.device('meta'):
        theirs = timm.create_model(f'resnet{depth}', num_classes=0).state_dict()
        encoder = timm_format.RESNET.read(theirs, Hints())
        of_detectron2 = detectron2.Detectron2ResNet(depth).state_dict()
    scope = 'a2mim_mm' if depth == 200 else 'mmpretrain'
    assert encoder.cfg == dict(type=f'{scope}.ResNet', depth=depth)
    ours = build_backbone(encoder.cfg).state_dict()
    assert shapes(ours) == shapes(theirs)
    written, _ = detectron2.RESNET.write(encoder)
    assert shapes(written) == shapes(by_detectron2(theirs)) == shapes(of_detectron2)


def test_stages_of_no_known_depth_are_refused():
    weights = torchvision.models.resnet.ResNet(
        torchvision.models.resnet.BasicBlock, [1, 1, 2, 1]
    ).state_dict()
    with pytest.raises(ConversionError, match=r'stages of \(1, 1, 2, 1\) basic blocks; known depths: 18, 34'):
        torchvision_format.RESNET.read(peers.without_classifier(weights), Hints())


@pytest.mark.parametrize(
    ('build', 'reason'),
    [
        (lambda: ResNetV1d(depth=18), 'ResNet-C, -D'),
        (lambda: SEResNet(50), r'unknown: layer1\.0\.se_layer'),
        (lambda: timm.create_model('resnet18d', num_classes=0), 'ResNet-C, -D'),
        (lambda: timm.create_model('resnet26t', num_classes=0), 'ResNet-C, -D'),
        (lambda: timm.create_model('seresnet50', num_classes=0), 'squeeze and excitation'),
        (lambda: timm.create_model('resnext50_32x4d', num_classes=0), 'of another shape'),
        (lambda: timm.create_model('wide_resnet50_2', num_classes=0), 'of another shape'),
        (lambda: torchvision.models.resnext50_32x4d(), 'of another shape'),
        (lambda: timm.create_model('resnet18', num_classes=0, in_chans=1), 'of another shape'),
    ],
    ids=['v1d', 'se', 'timm-d', 'timm-t', 'timm-se', 'timm-x', 'timm-wide', 'torchvision-x', 'grey'],
)
def test_other_resnets_are_refused(build, reason):
    weights = build().state_dict()
    with pytest.raises(ConversionError, match=reason) as error:
        detect(weights, 'other.pth')
    assert 'other.pth resembles known formats, but cannot be read' in str(error.value)


def test_a_missing_an_unknown_and_a_misshapen_name_are_named():
    weights = peers.without_classifier(peers.weights_of(peers.torchvision_resnet(18)))
    naming = torchvision_format.RESNET
    for name in [name for name in weights if name.startswith(('conv1', 'bn1', 'layer4.0.downsample'))]:
        less = {key: tensor for key, tensor in weights.items() if key != name}
        if name.endswith('num_batches_tracked'):
            assert naming.read(less, Hints()).weights.keys() == less.keys()
            continue
        with pytest.raises(ConversionError):
            naming.read(less, Hints())
    del weights['layer2.0.bn1.bias']
    wrong = weights | {'layer3.0.extra.weight': torch.zeros(1), 'layer4.0.conv1.weight': torch.zeros(2)}
    with pytest.raises(ConversionError) as error:
        naming.read(wrong, Hints())
    assert str(error.value) == (
        'missing: layer2.0.bn1.bias; unknown: layer3.0.extra.weight; of another shape: layer4.0.conv1.weight'
    )


@pytest.mark.parametrize('lost', ['layer3.0.', 'layer3.', 'layer1.0.'])
def test_a_block_or_a_stage_that_is_missing_is_refused(lost):
    weights = peers.without_classifier(peers.weights_of(peers.torchvision_resnet(18)))
    less = {name: tensor for name, tensor in weights.items() if not name.startswith(lost)}
    with pytest.raises(ConversionError):
        torchvision_format.RESNET.read(less, Hints())


FOREIGN = {
    'torchvision mobilenet v2': torchvision.models.mobilenet_v2,
    'torchvision mobilenet v3': torchvision.models.mobilenet_v3_small,
    'torchvision efficientnet': torchvision.models.efficientnet_b0,
    'torchvision vit': torchvision.models.vit_b_16,
    'torchvision vgg': torchvision.models.vgg11,
    'timm mobilenet v2': lambda: timm.create_model('mobilenetv2_050'),
    'timm mobilenet v3': lambda: timm.create_model('mobilenetv3_small_050'),
    'timm efficientnet': lambda: timm.create_model('efficientnet_b0'),
    'timm efficientnet v2': lambda: timm.create_model('efficientnetv2_s'),
    'timm regnet': lambda: timm.create_model('regnety_002'),
}


@pytest.mark.parametrize('wrapper', [None, 'state_dict', 'model'])
@pytest.mark.parametrize('name', FOREIGN)
def test_other_networks_are_refused_with_the_formats_that_are_known(name, wrapper):
    with torch.device('meta'):
        weights = FOREIGN[name]().state_dict()
    with pytest.raises(ConversionError, match=r'format of .*foreign\.pth is not known') as error:
        detect({wrapper: weights} if wrapper else weights, 'foreign.pth')
    message = str(error.value)
    assert all(origin in message for origin in ORIGINS) and 'docs/checkpoints.md' in message
    assert next(iter(weights)) in message
