"""Which config a name means."""

import re

import pytest
import torch
from helpers.configs import CONFIGS, load_config
from helpers.peers import torchvision_resnet
from torch import nn

from a2mim_mm.errors import InputError
from a2mim_mm.pretraining.networks import find_network, known_names, network_of_weights


@pytest.mark.parametrize(
    'name, file',
    [
        ('vit_base', 'a2mim_vit-b.py'),
        ('vit_small', 'a2mim_vit-s.py'),
        ('convnext_tiny', 'zoo/convnext_tiny.py'),
        ('resnet18_cifar10', 'cifar/resnet18_cifar10.py'),
    ],
)
def test_a_name_is_a_config(name, file):
    network = find_network(name)
    assert network.base.samefile(CONFIGS / 'selfsup' / file) and network.backbone == {}


def test_every_known_name_is_found():
    assert len(known_names()) > 38
    assert all(find_network(name).base.is_file() for name in known_names())


@pytest.mark.parametrize(
    'backbone, base',
    [
        ('resnet50', 'zoo.py'),
        ('timm:resnet18', 'zoo.py'),
        ('timm:vit_tiny_patch16_224', 'zoo_transformer.py'),
        ('timm:efficientformerv2_s0', 'zoo_transformer.py'),
        (dict(type='mmpretrain.VAN', arch='tiny'), 'zoo.py'),
        (dict(type='mmpretrain.SwinTransformer', arch='tiny'), 'zoo_transformer.py'),
        (nn.Sequential(nn.Conv2d(3, 4, 4, 4)), 'zoo.py'),
    ],
)
def test_networks_with_attention_get_the_settings_of_vits(backbone, base):
    assert find_network(backbone).base.samefile(CONFIGS / '_base_' / base)


def test_the_zoo_has_these_settings_by_the_same_rule():
    """A network of the zoo, asked for by its config, gets what its file inherits."""
    for name in ('van_small', 'pvt_v2_b1', 'maxvit_tiny_tf_224', 'fastvit_t8', 'eva02_tiny_patch14_224'):
        path = CONFIGS / 'selfsup' / 'zoo' / f'{name}.py'
        backbone = dict(load_config(str(path)).model.backbone)
        assert f'/{find_network(backbone).base.name}' in path.read_text(), name


def test_networks_of_one_size_are_told_it():
    assert find_network('timm:vit_tiny_patch16_224', 96).backbone['img_size'] == 96
    assert 'img_size' not in find_network('timm:resnet18', 96).backbone


@pytest.mark.parametrize(
    'backbone, message',
    [
        ('resnet19', "there is no backbone 'resnet19'; the nearest names are resnet18"),
        ('convnextv2_nano', 'timm:convnextv2_nano'),
        ('timm:resnet19', "no model 'resnet19'; the nearest names are resnet"),
        (50, 'backbone must be a name'),
        (dict(depth=50), 'backbone must be a name'),
    ],
)
def test_other_names_are_refused_with_the_nearest(backbone, message):
    with pytest.raises(InputError, match=re.escape(message)):
        find_network(backbone)


def test_the_network_of_a_file(tmp_path):
    path = tmp_path / 'r18.pth'
    torch.save(torchvision_resnet(18).state_dict(), path)
    network = network_of_weights(path)
    assert (network.backbone['type'], network.backbone['depth']) == ('mmpretrain.ResNet', 18)
