"""Small encoders of other libraries, random in every number, for conversions to be held against."""

import re
from functools import cache

import timm
import torch
import torchvision
from mmpretrain.models import BEiTViT, ConvNeXt, ResNet, SwinTransformer, VisionTransformer
from timm.models.beit import Beit
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import nn

WIDTH, LAYERS, HEADS, PATCH, SIZE = 64, 2, 4, 16, 64
ARCH = dict(embed_dims=WIDTH, num_layers=LAYERS, num_heads=HEADS, feedforward_channels=4 * WIDTH)
_TIMM = dict(img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS, num_classes=0)
_MM = dict(arch=ARCH, img_size=SIZE, patch_size=PATCH, out_type='raw')
CONVNEXT = dict(depths=[1, 2, 3, 1], channels=[8, 12, 16, 20])
SWIN = dict(embed_dims=8, depths=[2, 2, 3, 2], num_heads=[1, 2, 2, 4])
SWIN_SIZE, WINDOW = 96, 3  # the last stage is one window


def randomised(module, seed=0):
    """The module in evaluation mode, another number in each place, norms and LayerScale included."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith('running_var'):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith('num_batches_tracked'):
            tensor.fill_(seed + 7)
        elif tensor.is_floating_point():
            fan_in = tensor[0].numel() if tensor.ndim > 1 else 10
            tensor.normal_(0, fan_in**-0.5, generator=generator)
    module.eval()  # mmpretrain's returns None
    return module


def timm_vit(**changes):
    """timm's VisionTransformer."""
    return timm.models.VisionTransformer(**{**_TIMM, **changes})


def timm_beit(**changes):
    """timm's Beit, with LayerScale and a table in each layer unless told otherwise."""
    default = dict(init_values=0.1, use_abs_pos_emb=False, use_rel_pos_bias=True, global_pool='token')
    return Beit(**{**_TIMM, **default, **changes})


def timm_relpos(**changes):
    """timm's VisionTransformerRelPos, with a cls token unless told otherwise."""
    default = dict(rel_pos_type='bias', class_token=True, global_pool='token')
    return VisionTransformerRelPos(**{**_TIMM, **default, **changes})


def mm_vit(**changes):
    """mmpretrain's VisionTransformer."""
    return VisionTransformer(**{**_MM, **changes})


def mm_beit(**changes):
    """mmpretrain's BEiTViT, with LayerScale and a table in each layer unless told otherwise."""
    default = dict(
        layer_scale_init_value=0.1,
        use_rel_pos_bias=True,
        use_abs_pos_emb=False,
        bias='qv_bias',
        final_norm=True,
    )
    return BEiTViT(**{**_MM, **default, **changes})


def timm_convnext(**changes):
    """timm's ConvNeXt, V1 unless told otherwise."""
    default = dict(num_classes=0, depths=CONVNEXT['depths'], dims=CONVNEXT['channels'])
    return timm.models.ConvNeXt(**{**default, **changes})


def timm_swin(**changes):
    """timm's SwinTransformer."""
    sizes = dict(embed_dim=SWIN['embed_dims'], depths=SWIN['depths'], num_heads=SWIN['num_heads'])
    default = dict(num_classes=0, img_size=SWIN_SIZE, window_size=WINDOW)
    return timm.models.SwinTransformer(**{**sizes, **default, **changes})


def mm_convnext(**changes):
    """mmpretrain's ConvNeXt."""
    return ConvNeXt(**{**dict(arch=CONVNEXT, out_indices=[3]), **changes})


def mm_swin(**changes):
    """mmpretrain's SwinTransformer."""
    return SwinTransformer(**{**dict(arch=SWIN, img_size=SWIN_SIZE, window_size=WINDOW), **changes})


@cache
def torchvision_resnet(depth):
    """torchvision's ResNet, with a classifier of three classes."""
    return randomised(getattr(torchvision.models, f'resnet{depth}')(num_classes=3))


@cache
def timm_resnet(depth):
    """timm's ResNet, with a classifier of three classes."""
    return randomised(timm.create_model(f'resnet{depth}', num_classes=3))


@cache
def mm_resnet(depth):
    """mmpretrain's ResNet."""
    return randomised(ResNet(depth))


def weights_of(module, dtype=None):
    """A copy of the module's state dict; floating-point tensors of another dtype if one is given."""
    return {
        name: tensor.clone().to(dtype) if dtype and tensor.is_floating_point() else tensor.clone()
        for name, tensor in module.state_dict().items()
    }


def random_weights(module):
    """State dict of a module, random in every number."""
    return weights_of(randomised(module))


def without_classifier(weights):
    """Weights without ``fc`` and ``head``."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith(('fc.', 'head.'))}


def images(size=SIZE, count=2, dtype=torch.float64, channels=3):
    """(count, channels, H, W) noise."""
    size_hw = (size, size) if isinstance(size, int) else size
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, channels, *size_hw, generator=generator, dtype=torch.float64).to(dtype)


@torch.no_grad()
def run(module: nn.Module, picture):
    """All tokens of a ViT, or their normalised mean where it normalises that; the last map of a CNN."""
    if isinstance(module, torchvision.models.ResNet):
        nodes = torchvision.models.feature_extraction.create_feature_extractor(module, ['layer4'])
        return nodes(picture)['layer4']
    if hasattr(module, 'forward_features'):
        tokens = module.forward_features(picture)
        mean = isinstance(getattr(module, 'fc_norm', None), nn.LayerNorm)
        return module.forward_head(tokens, pre_logits=True) if mean else tokens
    return module(picture)[-1]


def difference(first, second):
    """max|a - b| / max|a|, the shapes being equal."""
    assert first.shape == second.shape
    return ((first - second).abs().max() / first.abs().max()).item()


def same_weights(first, second):
    """Whether names, dtypes, shapes and all bits are equal."""
    return first.keys() == second.keys() and all(
        tensor.dtype == second[name].dtype and torch.equal(tensor, second[name])
        for name, tensor in first.items()
    )


def detectron2_resnet(weights):
    """Names of torchvision as MoCo's converter to detectron2 changes them, step by step."""
    renamed = {}
    for name, tensor in weights.items():
        if 'layer' not in name:
            name = f'stem.{name}'
        for i in (4, 3, 2, 1):
            name = name.replace(f'layer{i}', f'res{i + 1}').replace(f'bn{i}', f'conv{i}.norm')
        renamed[name.replace('downsample.0', 'shortcut').replace('downsample.1', 'shortcut.norm')] = tensor
    return renamed


def facebook_convnext(weights):
    """timm's ConvNeXt by the names and shapes of facebookresearch's."""
    renamed = {}
    for name, tensor in weights.items():
        for pattern, new in (
            (r'stem\.', 'downsample_layers.0.'),
            (r'stages\.(\d)\.downsample\.', r'downsample_layers.\1.'),
            (r'stages\.(\d)\.blocks\.', r'stages.\1.'),
            (r'conv_dw', 'dwconv'),
            (r'mlp\.fc(\d)', r'pwconv\1'),
            (r'mlp\.grn\.weight', 'grn.gamma'),
            (r'mlp\.grn\.bias', 'grn.beta'),
            (r'head\.norm', 'norm'),
        ):
            name = re.sub(pattern, new, name)
        if '.pwconv' in name and tensor.ndim == 4:
            tensor = tensor[:, :, 0, 0]
        renamed[name] = tensor[None, None, None] if '.grn.' in name else tensor
    return renamed


def microsoft_swin(network):
    """The weights of timm's Swin by microsoft's names, with the buffers that microsoft's class saves."""
    computed = ('relative_position_index', 'attn_mask')
    weights = weights_of(network) | {
        name: buffer for name, buffer in network.named_buffers() if name.endswith(computed)
    }
    pattern = re.compile(r'layers\.(\d)\.downsample')
    return {
        pattern.sub(lambda match: f'layers.{int(match[1]) - 1}.downsample', name): tensor
        for name, tensor in weights.items()
    }


def huggingface_vit(weights, prefix=''):
    """A ViT's weights by names typed from transformers, modeling_vit.py; query, key and value apart."""
    found = {}
    for name, tensor in weights.items():
        for old, new in (
            ('patch_embed.proj', 'embeddings.patch_embeddings.projection'),
            ('pos_embed', 'embeddings.position_embeddings'),
            ('cls_token', 'embeddings.cls_token'),
            ('blocks.', 'encoder.layer.'),
            ('norm1', 'layernorm_before'),
            ('norm2', 'layernorm_after'),
            ('attn.proj', 'attention.output.dense'),
            ('mlp.fc1', 'intermediate.dense'),
            ('mlp.fc2', 'output.dense'),
        ):
            name = name.replace(old, new)
        name = re.sub(r'^norm\.', 'layernorm.', name)
        if 'attn.qkv' in name:
            for part, piece in zip(('query', 'key', 'value'), tensor.chunk(3), strict=True):
                found[prefix + name.replace('attn.qkv', f'attention.attention.{part}')] = piece
        else:
            found[prefix + name] = tensor
    return found


def huggingface_resnet(weights, prefix=''):
    """A ResNet's weights by names typed from transformers, modeling_resnet.py."""

    def new(name):
        name = re.sub(r'^(conv1)\.', 'embedder.embedder.convolution.', name)
        name = re.sub(r'^bn1\.', 'embedder.embedder.normalization.', name)
        name = re.sub(r'^layer(\d)\.(\d)\.', lambda m: f'encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.', name)
        name = name.replace('downsample.0', 'shortcut.convolution')
        name = name.replace('downsample.1', 'shortcut.normalization')
        name = re.sub(r'\.conv(\d)\.', lambda m: f'.layer.{int(m[1]) - 1}.convolution.', name)
        return prefix + re.sub(r'\.bn(\d)\.', lambda m: f'.layer.{int(m[1]) - 1}.normalization.', name)

    return {new(name): tensor for name, tensor in weights.items()}
