"""Small encoders of other libraries, random in every number, for conversions to be held against."""

import re
from functools import cache

import timm
import torch
import torchvision
from mmpretrain.models import BEiTViT, ResNet, VisionTransformer
from timm.models.beit import Beit
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import nn

WIDTH, LAYERS, HEADS, PATCH, SIZE = 64, 2, 4, 16, 64
ARCH = dict(embed_dims=WIDTH, num_layers=LAYERS, num_heads=HEADS, feedforward_channels=4 * WIDTH)
_TIMM = dict(img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS, num_classes=0)
_MM = dict(arch=ARCH, img_size=SIZE, patch_size=PATCH, out_type='raw')


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


def without_classifier(weights):
    """Weights without ``fc`` and ``head``."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith(('fc.', 'head.'))}


def images(size=SIZE, count=2, dtype=torch.float64):
    """(count, 3, H, W) noise."""
    size_hw = (size, size) if isinstance(size, int) else size
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, *size_hw, generator=generator, dtype=torch.float64).to(dtype)


@torch.no_grad()
def run(module: nn.Module, picture):
    """All tokens of a ViT, or their normalised mean where it normalises that; the last map of a CNN."""
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
