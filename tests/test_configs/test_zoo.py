"""Every network of configs/selfsup/zoo trains, with a gradient wherever its own features have one."""

import re

import pytest
import torch
from helpers.algorithms import batch
from helpers.configs import CONFIGS, as_written, build, names, read

from a2mim_mm.backbones.sites import as_map
from a2mim_mm.checkpoints.load import build_network

TABLE = (CONFIGS / 'selfsup' / 'zoo' / 'README.md').read_text()
ZOO = [name.rpartition('/')[2] for name in names('selfsup/zoo/*')]
# Layouts of all kinds, quick to build; `make test-slow` has the rest.
QUICK = 'resnet18 convnextv2_atto swin_tiny vit_small_patch14_reg4_dinov2 eva02_tiny_patch14_224'.split()
TRANSFORMERS = {
    *'swin_tiny swin_base pvt_v2_b1 deit_tiny vit_large vit_huge_patch14 beit_base_patch16'.split(),
    *'maxvit_tiny_tf_224 coatnet_0_rw_224 vit_small_patch14_reg4_dinov2 vit_small_patch16_dinov3'.split(),
    *'eva02_tiny_patch14_224 efficientformerv2_s0'.split(),
}
pytest.importorskip('timm')


def rows():
    """Columns of the table by network."""
    found = re.findall(r'^\| `(\w+)` \|(.*)\|$', TABLE, flags=re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split('|')] for name, cells in found}


def test_the_table_has_every_network():
    assert {*rows()} == {*ZOO} and {*QUICK} | TRANSFORMERS < {*ZOO} and len(ZOO) == 35


def plain_network(backbone):
    """The network as its own library builds it, and how it gives its features."""
    backbone = dict(backbone)
    if backbone['type'] != 'a2mim_mm.TimmBackbone':
        network = build_network(backbone)
        return network, network
    import timm

    name = backbone.pop('model_name')
    del backbone['type']
    network = timm.create_model(name, num_classes=0, **backbone)
    return network, lambda images: (as_map(network.forward_features(images), images.shape),)


def without_gradient(network, loss):
    """Names of the parameters that a loss does not depend on."""
    network.zero_grad()
    loss.backward()
    return {name for name, param in network.named_parameters() if param.grad is None}


@pytest.mark.parametrize('name', [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ZOO])
def test_network(name):
    cfg = read(f'selfsup/zoo/{name}')
    model = build(cfg)
    assert model.found == 'token added after {2}; decoder {3}'.format(*rows()[name])
    plain, features = plain_network(cfg.model.backbone)
    plain.load_state_dict(model.backbone.state_dict())

    images, samples = batch(2, (224, 224))
    for network in (model, plain):
        network.eval()
    with torch.no_grad():
        torch.testing.assert_close(model.extract_feat(images)[-1], features(images[0])[-1], rtol=0, atol=0)

    for network in (model, plain):
        network.train()
    unused = without_gradient(plain, features(images[0])[-1].square().sum())
    untrained = without_gradient(model, sum(model.loss(images, samples).values()))
    assert {key.removeprefix('backbone.') for key in untrained} == unused
    assert model.mask_token.token.grad.abs().sum() > 0
    frozen = {key for key, param in model.backbone.named_parameters() if not param.requires_grad}
    assert unused == frozen or cfg.get('find_unused_parameters')


@pytest.mark.parametrize('name', ZOO)
def test_recipe(name):
    cfg = as_written(f'selfsup/zoo/{name}')
    lr, clip = (8e-4, 5.0) if name in TRANSFORMERS else (1.2e-3, None)
    assert cfg.optim_wrapper.optimizer.lr == lr
    assert cfg.optim_wrapper.get('clip_grad', {}).get('max_norm') == clip
    assert cfg.train_cfg.max_epochs == 300 and cfg.model.mask.ratio == 0.6
