"""Weights of others for a pre-training: taken wholly, and the network computes what theirs did."""

import copy
import re

import pytest
import torch
from helpers import peers
from mmengine.config import Config

from a2mim_mm.checkpoints.errors import CheckpointError
from a2mim_mm.checkpoints.load import build_network
from a2mim_mm.convert import ConversionError
from a2mim_mm.convert.adopt import adopt, network_in

TABLES = dict(rel_pos_bias='layer')
VIT = dict(type='a2mim_mm.A2MIMViT', arch=peers.ARCH, img_size=peers.SIZE, patch_size=16, out_type='raw')
BEIT = dict(VIT, rel_pos_bias='layer', abs_pos_embed=False, layer_scale_init_value=0.1)
# A source of each family, and the backbones of ours that it starts.
PAIRS = {
    'timm ViT': (peers.timm_vit, lambda state: state, VIT | dict(rel_pos_bias=None)),
    'timm ViT, new tables': (peers.timm_vit, lambda state: state, VIT | TABLES),
    'MAE': (peers.timm_vit, lambda state: dict(model=state), VIT | TABLES),
    'DINO': (
        peers.timm_vit,
        lambda state: dict(teacher={f'module.backbone.{name}': value for name, value in state.items()}),
        VIT | TABLES,
    ),
    'BEiT': (peers.timm_beit, lambda state: dict(model=state), BEIT | dict(img_size=peers.SIZE)),
    'BEiT, new positions': (
        peers.timm_beit,
        lambda state: dict(model=state),
        BEIT | dict(abs_pos_embed=True),
    ),
    'mmpretrain': (
        peers.mm_vit,
        lambda state: dict(state_dict={f'backbone.{n}': v for n, v in state.items()}),
        VIT,
    ),
    'torchvision': (lambda: peers.torchvision_resnet(18), lambda state: state, dict(type='ResNet', depth=18)),
    'timm ResNet': (lambda: peers.timm_resnet(18), lambda state: state, dict(type='ResNet', depth=18)),
    'ResNet to timm': (
        lambda: peers.mm_resnet(18),
        lambda state: state,
        dict(type='a2mim_mm.TimmBackbone', model_name='resnet18'),
    ),
    'timm Swin': (
        lambda: peers.timm_swin(img_size=64, window_size=2),
        lambda state: dict(model=state),
        dict(type='SwinTransformer', arch=peers.SWIN, img_size=64, window_size=2),
    ),
    'timm ConvNeXt': (
        peers.timm_convnext,
        lambda state: state,
        dict(type='ConvNeXt', arch=peers.CONVNEXT, gap_before_final_norm=False),
    ),
}


def started(backbone, path, **changes):
    """A network that starts from a file, in float64, and the notes."""
    network = build_network({**backbone, **changes})
    cfg = Config(dict(model=dict(backbone={**backbone, **changes})))
    pretrained, notes = adopt(path, cfg, network)
    pretrained.load_into(torch.nn.ModuleDict(dict(backbone=network)))
    network.eval()
    return network.double(), notes


def features(network, image):
    """The last map or the tokens of a network of any library, pooled."""
    if hasattr(network, 'forward_features') and not hasattr(network, 'out_indices'):
        out = network.forward_features(image)
    elif hasattr(network, 'fc'):
        out = torch.nn.Sequential(*list(network.children())[:-2])(image)
    else:
        out = network(image)
    return out[-1] if isinstance(out, tuple) else out


@pytest.mark.parametrize('pair', PAIRS)
def test_the_backbone_computes_what_its_source_does(pair, tmp_path):
    source, wrap, backbone = PAIRS[pair]
    source = copy.deepcopy(peers.randomised(source()))  # some are shared with other tests
    torch.save(wrap(source.state_dict()), tmp_path / 'weights.pth')
    network, notes = started(backbone, tmp_path / 'weights.pth')
    image = peers.images(peers.SIZE)
    with torch.no_grad():
        ours, theirs = features(network, image), features(source.double(), image)
    if 'ConvNeXt' in pair:  # the pre-training's last map is normalised, timm's is not yet
        theirs = source.norm_pre(theirs) if hasattr(source, 'norm_pre') else theirs
        theirs = network.norm3(theirs)
    if 'Swin' in pair:
        theirs = theirs.permute(0, 3, 1, 2)
    assert peers.difference(theirs, ours) < 1e-9
    new = backbone.get('rel_pos_bias', 'layer') == 'layer' and pair != 'BEiT'
    assert any('zero, which' in note for note in notes) == (backbone['type'].endswith('ViT') and new)


@pytest.mark.parametrize('channels', [1, 4, 13])
def test_the_first_convolution_is_fitted_to_other_channels(channels, tmp_path):
    source = peers.torchvision_resnet(18)
    torch.save(source.state_dict(), tmp_path / 'weights.pth')
    network, notes = started(dict(type='ResNet', depth=18), tmp_path / 'weights.pth', in_channels=channels)
    theirs, ours = source.conv1.weight.float(), network.conv1.weight.float()
    if channels == 1:
        assert torch.allclose(ours, theirs.sum(1, keepdim=True)) and 'summed for 1' in notes[0]
    else:
        assert all(torch.allclose(ours[:, i] * channels / 3, theirs[:, i % 3]) for i in range(channels))
        assert f'repeated for {channels}' in notes[0]


def test_other_heads_are_refused(tmp_path):
    """MoCo v3's ViT-S has 12 heads of 32; the names and shapes are those of the usual one, with 6 of 64."""
    source = peers.timm_vit(embed_dim=384, num_heads=12)
    state = {f'module.base_encoder.{name}': value for name, value in source.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'moco.pth')
    arch = dict(embed_dims=384, num_layers=peers.LAYERS, num_heads=6, feedforward_channels=1536)
    with pytest.raises(CheckpointError, match='num_heads is 12 there and 6 here'):
        started(VIT | dict(arch=arch), tmp_path / 'moco.pth')


def test_an_encoder_is_taken_whole_or_not_at_all(tmp_path):
    torch.save(peers.timm_vit(depth=3).state_dict(), tmp_path / 'deeper.pth')
    with pytest.raises(CheckpointError, match='left over of a deeper or other encoder'):
        started(VIT, tmp_path / 'deeper.pth')
    state = peers.timm_vit().state_dict()
    del state['norm.bias']
    torch.save(state, tmp_path / 'holes.pth')
    with pytest.raises((CheckpointError, ConversionError), match='missing|not in the checkpoint'):
        started(VIT, tmp_path / 'holes.pth')


def test_unknown_names_are_refused_with_the_formats(tmp_path):
    torch.save({'my.weight': torch.ones(2, 2)}, tmp_path / 'mine.pth')
    with pytest.raises(ConversionError, match=re.escape('the format of') + '.*is not known'):
        started(VIT, tmp_path / 'mine.pth')


def test_a_file_tells_the_network_of_a_pretraining(tmp_path):
    torch.save(
        dict(model=peers.timm_vit(embed_dim=192, depth=12, num_heads=3).state_dict()), tmp_path / 'mae.pth'
    )
    backbone, _ = network_in(tmp_path / 'mae.pth')
    assert backbone['rel_pos_bias'] is None and backbone['img_size'] == peers.SIZE
    network = build_network(backbone)
    assert network(torch.zeros(1, 3, 96, 96))[-1].shape == (1, 192, 6, 6)
