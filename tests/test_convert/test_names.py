"""Names of weights, of all families: whose they are, and which are missing, misshapen or unknown."""

import re

import pytest
import torch
from helpers import peers
from helpers.peers import random_weights

from a2mim_mm.convert import ORIGINS, ConversionError
from a2mim_mm.convert.formats import convnext, detectron2, huggingface, openmmlab, simmim, torchvision
from a2mim_mm.convert.formats import timm as timm_format
from a2mim_mm.convert.naming import Hints

COMPUTED = ('relative_position_index', 'attn_mask', 'num_batches_tracked')
INDEX = 'attn.w_msa.relative_position_index'
SHARED = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True)
R18 = peers.without_classifier(peers.weights_of(peers.torchvision_resnet(18)))
CONVNEXT = random_weights(peers.timm_convnext())
SWIN = peers.randomised(peers.timm_swin())
CASES = {
    'torchvision ResNet': (torchvision.RESNET, R18),
    'detectron2': (detectron2.RESNET, peers.detectron2_resnet(R18)),
    'transformers ResNet': (huggingface.RESNET, peers.huggingface_resnet(R18)),
    'mmpretrain ViT': (openmmlab.VIT, random_weights(peers.mm_vit(layer_scale_init_value=0.1))),
    'mmpretrain BEiT': (openmmlab.BEIT, random_weights(peers.mm_beit())),
    'mmpretrain BEiT, shared': (openmmlab.BEIT, random_weights(peers.mm_beit(**SHARED))),
    'timm ViT': (timm_format.VIT, random_weights(peers.timm_vit(init_values=0.1))),
    'timm BEiT': (timm_format.BEIT, random_weights(peers.timm_beit())),
    'timm relpos': (timm_format.RELPOS, random_weights(peers.timm_relpos())),
    'timm relpos, shared': (timm_format.RELPOS, random_weights(peers.timm_relpos(shared_rel_pos=True))),
    'transformers ViT': (huggingface.VIT, peers.huggingface_vit(random_weights(peers.timm_vit()))),
    'mmpretrain ConvNeXt': (openmmlab.CONVNEXT, random_weights(peers.mm_convnext())),
    'timm ConvNeXt': (timm_format.CONVNEXT, CONVNEXT),
    'facebook ConvNeXt': (convnext.CONVNEXT, peers.facebook_convnext(CONVNEXT)),
    'mmpretrain Swin': (openmmlab.SWIN, random_weights(peers.mm_swin())),
    'timm Swin': (timm_format.SWIN, peers.weights_of(SWIN)),
    'microsoft Swin': (simmim.SWIN, peers.microsoft_swin(SWIN)),
}
# Their checks are those of others of their family.
SHARING = {'detectron2', 'timm ConvNeXt', 'mmpretrain ConvNeXt', 'timm Swin', 'mmpretrain Swin'}
SAME_NAMES = (
    {'torchvision ResNet', 'timm ResNet', 'mmpretrain ResNet'},
    {'mmpretrain BEiT', 'OpenMixup ViT'},
)


def read(key, weights):
    """The encoder, whose heads and image size are known if it is a ViT or a Swin."""
    swin = Hints(img_size=(peers.SWIN_SIZE, peers.SWIN_SIZE))
    return CASES[key][0].read(weights, swin if 'Swin' in key else Hints(heads=peers.HEADS))


@pytest.mark.parametrize('key', [key for key in CASES if key != 'timm relpos, shared'])
def test_each_naming_claims_its_own_weights_alone(key):
    naming, names = CASES[key]
    known = [naming for origin in ORIGINS.values() for naming in origin.namings]
    expected = next((alike for alike in SAME_NAMES if naming.name in alike), {naming.name})
    assert {naming.name for naming in known if naming.claims(names)} == expected


@pytest.mark.parametrize('key', [key for key in CASES if key not in SHARING and 'transformers' not in key])
def test_every_single_name_that_is_missing_or_misshapen_is_refused(key):
    """But not of later blocks and stages, which only repeat the first ones."""
    weights = {name: tensor for name, tensor in CASES[key][1].items() if not name.endswith(COMPUTED)}
    for name, tensor in weights.items():
        if re.match(r'(layer[123]|res[234]|\w+\.[12])\.|.*blocks\.[12]\.', name):
            continue
        with pytest.raises(ConversionError):
            read(key, {key: value for key, value in weights.items() if key != name})
        longer = torch.cat([tensor, tensor[:1]])
        for wrong in (tensor[None], tensor.flatten()[:-1], longer, tensor.repeat_interleave(2, dim=-1)):
            with pytest.raises(ConversionError):
                read(key, weights | {name: wrong})


@pytest.mark.parametrize(
    ('key', 'name', 'pivot'),
    [
        ('mmpretrain ViT', 'layers.1.ffn.layers.1.bias', 'layers.1.ffn.layers.1.bias'),
        ('mmpretrain BEiT', 'layers.1.attn.proj.bias', 'layers.1.attn.proj.bias'),
        ('mmpretrain BEiT', 'layers.1.attn.v_bias', 'layers.1.attn.v_bias'),
        ('timm ViT', 'blocks.1.mlp.fc2.bias', 'layers.1.ffn.layers.1.bias'),
        ('timm relpos, shared', 'blocks.1.mlp.fc2.bias', 'layers.1.ffn.layers.1.bias'),
        ('mmpretrain ConvNeXt', 'stages.2.1.pointwise_conv2.bias', 'stages.2.1.pointwise_conv2.bias'),
        ('timm ConvNeXt', 'stages.2.blocks.2.conv_dw.weight', 'stages.2.2.depthwise_conv.weight'),
        ('timm ConvNeXt', 'stem.0.weight', 'downsample_layers.0.0.weight'),
        ('timm ConvNeXt', 'head.norm.weight', 'norm3.weight'),
        ('facebook ConvNeXt', 'stages.2.1.pwconv2.bias', 'stages.2.1.pointwise_conv2.bias'),
        ('mmpretrain Swin', 'stages.2.blocks.1.ffn.layers.1.bias', 'stages.2.blocks.1.ffn.layers.1.bias'),
        ('timm Swin', 'layers.3.downsample.norm.weight', 'stages.2.downsample.norm.weight'),
        ('timm Swin', 'norm.weight', 'norm3.weight'),
        ('microsoft Swin', 'layers.2.downsample.reduction.weight', 'stages.2.downsample.reduction.weight'),
    ],
)
def test_the_error_names_what_is_missing_or_misshapen(key, name, pivot):
    weights = CASES[key][1]
    with pytest.raises(ConversionError, match=f'missing: {re.escape(pivot)}$'):
        read(key, {key: tensor for key, tensor in weights.items() if key != name})
    with pytest.raises(ConversionError, match=f'of another shape: {re.escape(pivot)}'):
        read(key, weights | {name: weights[name].flatten()[1:]})


@pytest.mark.parametrize(
    ('key', 'extra', 'words'),
    [
        ('mmpretrain ViT', 'layers.0.attn.lamb', None),
        ('mmpretrain ViT', 'layers.2.ln1.weight', None),
        ('mmpretrain BEiT', 'blocks.0.attn.q_norm.weight', None),
        ('timm ViT', 'blocks.2.norm1.weight', 'layers.2.ln1.weight'),
        ('timm ViT', 'dist_token', 'a distillation token'),
        ('timm ViT', 'register_tokens', 'register tokens'),
        ('timm ViT', 'blocks.0.mlp.w12.weight', 'SwiGLU'),
        ('timm BEiT', 'layers.0.attn.lamb', None),
        ('mmpretrain ConvNeXt', 'stages.4.0.gamma', None),
        ('timm ConvNeXt', 'stages.0.blocks.0.shortcut.conv.weight', None),
        ('timm ConvNeXt', 'norm_pre.weight', 'norm_pre'),
        ('facebook ConvNeXt', 'norm0.weight', None),
        ('mmpretrain Swin', 'stages.3.downsample.reduction.weight', None),
        ('mmpretrain Swin', f'stages.7.blocks.0.{INDEX}', None),
        ('timm Swin', 'layers.4.downsample.reduction.weight', None),
        ('microsoft Swin', 'layers.0.blocks.0.attn_mask', 'stages.0.blocks.0.attn.attn_mask'),
        ('microsoft Swin', 'absolute_pos_embed', 'absolute position'),
        ('microsoft Swin', 'layers.0.blocks.0.attn.logit_scale', 'Swin V2'),
    ],
)
def test_an_extra_name_is_refused_by_name(key, extra, words):
    with pytest.raises(ConversionError, match=re.escape(words or extra)):
        read(key, CASES[key][1] | {extra: torch.ones(8, 8)})
