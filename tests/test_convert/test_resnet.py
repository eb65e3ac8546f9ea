"""Namings of ResNets, against networks of torchvision, timm and mmpretrain; other CNNs are refused."""

from functools import partial

import pytest
import timm
import torch
import torchvision
from helpers import peers
from mmpretrain.models import SEResNet

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
    'detectron2': (detectron2.RESNET, peers.torchvision_resnet),
}


def weights_by(library, network):
    """The network's weights by the names of a library."""
    weights = peers.without_classifier(peers.weights_of(network))
    return peers.detectron2_resnet(weights) if library == 'detectron2' else weights


def shapes(weights):
    """Shapes by names."""
    return {name: tensor.shape for name, tensor in weights.items()}


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('library', NAMINGS)
@torch.no_grad()
def test_the_encoder_computes_what_its_source_does_and_comes_back(library, depth):
    naming, build = NAMINGS[library]
    network, picture = build(depth), peers.images()
    weights = weights_by(library, network)
    encoder = naming.read(weights, Hints())
    assert encoder.cfg == dict(type='mmpretrain.ResNet', depth=depth) and not encoder.folded
    assert peers.same_weights(encoder.weights, weights_by('', network))
    written, dropped = naming.write(encoder)
    assert peers.same_weights(written, weights) and not dropped
    expected = peers.run(network.double(), picture)
    network.float()
    ours = encoder.build(torch.float64)(picture)[-1]
    assert peers.difference(expected, ours) < 1e-9
    theirs = naming.peer(encoder.cfg, weights).double().features(picture)
    assert peers.difference(expected, theirs) < 1e-9


def test_detectron2_s_frozen_norms_have_no_counter():
    weights = weights_by('detectron2', peers.torchvision_resnet(18))
    weights = {name: tensor for name, tensor in weights.items() if not name.endswith('num_batches_tracked')}
    encoder = detectron2.RESNET.read(weights, Hints())
    assert peers.same_weights(detectron2.RESNET.write(encoder)[0], weights)
    expected = encoder.build(torch.float64)(peers.images())[-1]
    features = detectron2.RESNET.peer(encoder.cfg, weights).double().features(peers.images())
    assert peers.difference(expected, features) < 1e-9


@pytest.mark.parametrize('depth', [34, 101, 152, 200])
def test_all_depths_have_the_names_and_shapes_of_their_networks(depth):
    with torch.device('meta'):
        theirs = timm.create_model(f'resnet{depth}', num_classes=0).state_dict()
        encoder = timm_format.RESNET.read(theirs, Hints())
        of_detectron2 = detectron2.Detectron2ResNet(depth).state_dict()
    scope = 'a2mim_mm' if depth == 200 else 'mmpretrain'
    assert encoder.cfg == dict(type=f'{scope}.ResNet', depth=depth)
    assert shapes(build_backbone(encoder.cfg).state_dict()) == shapes(theirs)
    written, _ = detectron2.RESNET.write(encoder)
    assert shapes(written) == shapes(peers.detectron2_resnet(theirs)) == shapes(of_detectron2)


@pytest.mark.parametrize(
    ('build', 'reason'),
    [
        (lambda: SEResNet(50), r'unknown: layer1\.0\.se_layer'),
        (lambda: timm.create_model('resnet26t', num_classes=0), 'ResNet-C, -D'),
        (lambda: timm.create_model('resnet26d', num_classes=0, stem_type=''), 'ResNet-D'),
        (lambda: timm.create_model('seresnet50', num_classes=0), 'squeeze and excitation'),
        (lambda: torchvision.models.resnext50_32x4d(), 'of another shape'),
        (lambda: timm.create_model('resnet18', num_classes=0, in_chans=1), 'of another shape'),
    ],
    ids=['se', 'timm-t', 'timm-d', 'timm-se', 'torchvision-x', 'grey'],
)
def test_other_resnets_are_refused(build, reason):
    with pytest.raises(ConversionError, match=reason) as error:
        detect(build().state_dict(), 'other.pth')
    assert 'other.pth resembles known formats, but cannot be read' in str(error.value)


def test_a_missing_an_unknown_and_a_misshapen_name_are_named():
    weights = weights_by('', peers.torchvision_resnet(18))
    del weights['layer1.0.bn1.num_batches_tracked'], weights['layer2.0.bn1.bias']
    wrong = weights | {'layer3.0.extra.weight': torch.zeros(1), 'layer4.0.conv1.weight': torch.zeros(2)}
    with pytest.raises(ConversionError) as error:
        torchvision_format.RESNET.read(wrong, Hints())
    assert str(error.value) == (
        'missing: layer2.0.bn1.bias; unknown: layer3.0.extra.weight; of another shape: layer4.0.conv1.weight'
    )


@pytest.mark.parametrize(
    ('lost', 'message'),
    [
        ('layer1.0.', r'layer1\.\*\.conv1\.weight exists with number 1, but not with 0'),
        ('layer3.1.', r'stages of \(2, 2, 1, 2\) basic blocks; known depths: 18, 34'),
        ('layer3.', r'stages of \(2, 2, 0, 2\) basic blocks'),
    ],
)
def test_a_block_or_a_stage_that_is_missing_is_refused(lost, message):
    weights = weights_by('', peers.torchvision_resnet(18))
    less = {name: tensor for name, tensor in weights.items() if not name.startswith(lost)}
    with pytest.raises(ConversionError, match=message):
        torchvision_format.RESNET.read(less, Hints())


FOREIGN = [torchvision.models.mobilenet_v2, torchvision.models.vit_b_16, torchvision.models.vgg11]
FOREIGN += [partial(timm.create_model, name) for name in ('efficientnet_b0', 'regnety_002')]


@pytest.mark.parametrize('build', FOREIGN)
def test_other_networks_are_refused_with_the_formats_that_are_known(build):
    with torch.device('meta'):
        weights = build().state_dict()
    for checkpoint in (weights, dict(model=weights)):
        with pytest.raises(ConversionError, match=r'format of .*foreign\.pth is not known') as error:
            detect(checkpoint, 'foreign.pth')
        message = str(error.value)
        assert all(origin in message for origin in ORIGINS) and 'docs/checkpoints.md' in message
        assert next(iter(weights)) in message
