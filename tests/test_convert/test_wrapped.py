"""What frameworks put around an encoder's names, and names that only one framework has."""

import argparse

import pytest
import torch
from helpers import peers

from a2mim_mm.checkpoints import CheckpointError, load_checkpoint_file
from a2mim_mm.checkpoints.backbone import find_pretrained
from a2mim_mm.convert import ConversionError
from a2mim_mm.convert.detect import detect
from a2mim_mm.convert.naming import Hints

HINTS = Hints(heads=peers.HEADS)
RESNET = peers.without_classifier(peers.weights_of(peers.torchvision_resnet(18)))
VIT = peers.weights_of(peers.randomised(peers.timm_vit()))
NUMBERS = {'conv1': '0', 'bn1': '1', 'layer1': '4', 'layer2': '5', 'layer3': '6', 'layer4': '7'}


def under(prefix, weights):
    """Weights with something in front of their names."""
    return {prefix + name: tensor for name, tensor in weights.items()}


def numbered(weights):
    """A ResNet's weights as lightly's ``nn.Sequential`` names them."""
    parts = [(name.partition('.'), tensor) for name, tensor in weights.items()]
    return {f'{NUMBERS[first]}.{rest}': tensor for (first, _, rest), tensor in parts}


HEAD = {'classifier.weight': torch.ones(3, peers.WIDTH), 'classifier.bias': torch.ones(3)}
POOLER = {'pooler.dense.weight': torch.ones(4, 4)}
DECODER = {'decoder.mask_token': torch.ones(1, 1, 4), 'decoder.decoder_embed.weight': torch.ones(4, 4)}
OTHER = {'criterion.weight': torch.ones(3)}
WRAPPED = {
    'compiled': (under('_orig_mod.', RESNET), RESNET),
    'compiled in parallel': (under('module._orig_mod.', VIT), VIT),
    'parallel, compiled within': (under('_orig_mod.module.', VIT), VIT),
    'compiled backbone': (under('backbone._orig_mod.', RESNET), RESNET),
    'lightning': (dict(state_dict=under('model.', VIT)), VIT),
    'lightning, compiled': (dict(state_dict=under('model._orig_mod.', RESNET)), RESNET),
    'lightning with backbone': (dict(state_dict=under('model.backbone.', RESNET) | OTHER), RESNET),
    'lightly': (under('backbone.', numbered(RESNET)), RESNET),
    'lightly, alone': (numbered(RESNET), RESNET),
    'lightly in lightning': (dict(state_dict=under('model.backbone.', numbered(RESNET))), RESNET),
    'averaged alone': (dict(model_ema=VIT, epoch=3), VIT),
    'averaged alone, timm': (dict(state_dict_ema=under('module.', RESNET)), RESNET),
    'ViTModel': (peers.huggingface_vit(VIT) | POOLER, VIT),
    'ViTForImageClassification': (peers.huggingface_vit(VIT, 'vit.') | HEAD, VIT),
    'ViTMAEForPreTraining': (peers.huggingface_vit(VIT, 'vit.') | DECODER, VIT),
    'ResNetModel': (peers.huggingface_resnet(RESNET), RESNET),
    'ResNetForImageClassification': (peers.huggingface_resnet(RESNET, 'resnet.') | HEAD, RESNET),
}


@pytest.mark.parametrize('kind', WRAPPED)
def test_an_encoder_is_found_under_any_wrapping(kind):
    checkpoint, plain = WRAPPED[kind]
    expected = detect(plain, 'plain.pth', hints=HINTS)
    found = detect(checkpoint, 'x.pth', hints=HINTS)
    assert found.encoder.cfg == expected.encoder.cfg
    assert peers.same_weights(found.encoder.weights, expected.encoder.weights)
    first, second = (
        one.naming.peer(one.encoder.cfg, one.weights).double().features(peers.images())
        for one in (found, expected)
    )
    assert torch.equal(first, second)


def test_several_averages_ask_for_the_entry():
    checkpoint = dict(model_ema=VIT, state_dict_ema=RESNET)
    with pytest.raises(ConversionError, match="--entry.*'model_ema' .*'state_dict_ema'"):
        detect(checkpoint, 'x.pth', hints=HINTS)
    assert detect(checkpoint, 'x.pth', hints=HINTS, entry='model_ema').encoder.family == 'A2MIMViT'


@pytest.mark.parametrize('prefix', ['_orig_mod.', 'module._orig_mod.', 'backbone._orig_mod.'])
def test_a_backbone_for_pretrained_is_found_under_wrappers(prefix):
    assert find_pretrained(under(prefix, RESNET), 'x.pth').weights.keys() == RESNET.keys()


@pytest.mark.parametrize('number', ['nan', 'inf', '-inf'])
def test_numbers_that_are_not_finite_are_no_start(number):
    broken = {**RESNET, 'layer2.0.bn1.weight': torch.full((128,), float(number))}
    words = 'x.pth holds numbers that are not finite: backbone.layer2.0.bn1.weight'
    with pytest.raises(CheckpointError, match=words):
        find_pretrained(under('backbone.', broken), 'x.pth')


def test_settings_of_a_training_are_forgotten_unread(tmp_path):
    torch.save(dict(state_dict=VIT, args=argparse.Namespace(lr=1, path='x')), tmp_path / 'x.pth')
    checkpoint = load_checkpoint_file(tmp_path / 'x.pth')
    assert not isinstance(checkpoint['args'], argparse.Namespace) and not vars(checkpoint['args'])
    assert detect(checkpoint, 'x.pth', hints=HINTS).encoder.family == 'A2MIMViT'
