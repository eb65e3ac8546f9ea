"""What trains here exports: networks that no format names are written under their own library's names."""

import re

import pytest
import timm
import torch
from helpers.configs import build, names, read
from helpers.peers import difference, randomised, same_weights
from mmengine.config import Config
from mmpretrain.registry import MODELS
from safetensors.torch import load_file

from a2mim_mm.apis import load_backbone
from a2mim_mm.checkpoints import CheckpointError, load_checkpoint_file
from a2mim_mm.checkpoints.load import build_network
from a2mim_mm.checkpoints.write import safetensors_bytes
from a2mim_mm.convert import ConversionError, convert_checkpoint

SMALL = dict(type='a2mim_mm.TimmBackbone', model_name='mobilenetv4_conv_small_035')
MOBILE = dict(type='MobileNetV3', arch='small_075', out_indices=(12,))
# ViT-H takes 17 GB in float64; ViT-L has the same names.
ZOO = [name for name in names('selfsup/zoo/*') if not name.endswith('vit_huge_patch14')]


def trained(backbone, path, drop=''):
    """The file of a pre-training of this backbone, with random weights; returns the backbone."""
    network = randomised(build_network(backbone))
    state = {f'backbone.{name}': value for name, value in network.state_dict().items() if name != drop}
    text = Config(dict(model=dict(type='a2mim_mm.A2MIM', backbone=backbone))).pretty_text
    torch.save(dict(state_dict=state | {'neck.decoder.0.bias': torch.ones(3)}, meta=dict(cfg=text)), path)
    return network


@torch.no_grad()
def test_a_network_of_timm_loads_into_timm(tmp_path):
    network = trained(SMALL, tmp_path / 'epoch_1.pth')
    report = convert_checkpoint(tmp_path / 'epoch_1.pth', tmp_path / 'out.safetensors', 'timm')
    assert max(report['largest_relative_difference'].values()) < 1e-9
    theirs = timm.create_model(SMALL['model_name'], num_classes=0)
    theirs.load_state_dict(load_file(tmp_path / 'out.safetensors'))
    theirs.eval()
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(theirs.forward_features(image), network(image)[-1])


@torch.no_grad()
@pytest.mark.parametrize('to, prefix', [('mmpretrain', ''), ('mmdet', 'backbone.')])
def test_a_network_of_mmpretrain_loads_there(to, prefix, tmp_path):
    network = trained(MOBILE, tmp_path / 'epoch_1.pth')
    convert_checkpoint(tmp_path / 'epoch_1.pth', tmp_path / 'out.pth', to)
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'out.pth'), prefix=prefix or None)
    theirs = MODELS.build({**MOBILE, 'init_cfg': init_cfg})
    theirs.init_weights()
    theirs.eval()
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(theirs(image)[-1], network(image)[-1])


def test_the_file_beside_the_checkpoints_exports_too(tmp_path):
    network = randomised(build_network(SMALL))
    text = Config(dict(model=dict(type='a2mim_mm.A2MIM', backbone=SMALL))).pretty_text
    path = tmp_path / 'backbone.safetensors'
    path.write_bytes(safetensors_bytes(network.state_dict(), text))
    convert_checkpoint(path, tmp_path / 'out.pth', 'timm')
    assert same_weights(load_checkpoint_file(tmp_path / 'out.pth'), network.state_dict())


def test_a_network_whose_names_a_format_knows_goes_everywhere_that_it_goes(tmp_path):
    trained(dict(type='a2mim_mm.TimmBackbone', model_name='resnet18'), tmp_path / 'epoch_1.pth')
    report = convert_checkpoint(tmp_path / 'epoch_1.pth', tmp_path / 'out.pth', 'torchvision')
    assert max(report['largest_relative_difference'].values()) < 1e-9


@pytest.mark.parametrize(
    'backbone, to, message',
    [
        (SMALL, 'detectron2', 'cannot hold timm mobilenetv4_conv_small_035, which can be written to timm,'),
        (MOBILE, 'timm', 'cannot hold mmpretrain MobileNetV3, which can be written to mmpretrain,'),
    ],
)
def test_other_targets_are_refused(backbone, to, message, tmp_path):
    trained(backbone, tmp_path / 'epoch_1.pth')
    target = tmp_path / ('out.pkl' if to == 'detectron2' else 'out.pth')
    with pytest.raises(ConversionError, match=re.escape(message)):
        convert_checkpoint(tmp_path / 'epoch_1.pth', target, to)
    assert not target.exists()


def test_a_file_with_a_hole_is_refused(tmp_path):
    trained(SMALL, tmp_path / 'epoch_1.pth', drop='conv_stem.weight')
    with pytest.raises(CheckpointError, match='not in the checkpoint'):
        convert_checkpoint(tmp_path / 'epoch_1.pth', tmp_path / 'out.pth', 'timm')
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.slow
@pytest.mark.parametrize('name', ZOO)
def test_every_network_of_the_zoo_exports_to_its_library(name, tmp_path):
    cfg = read(name)
    model = build(cfg)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=cfg.pretty_text)), tmp_path / 'epoch_1.pth')
    image = torch.rand(1, 3, 224, 224)
    model.eval()
    with torch.no_grad():
        ours = load_backbone(tmp_path / 'epoch_1.pth')(image)[-1]
        assert difference(model.backbone(image)[-1], ours) == 0
    to = 'timm' if cfg.model.backbone.type == 'a2mim_mm.TimmBackbone' else 'mmpretrain'
    report = convert_checkpoint(tmp_path / 'epoch_1.pth', tmp_path / 'out.safetensors', to)
    assert (
        report['largest_relative_difference'] and max(report['largest_relative_difference'].values()) < 1e-6
    )
