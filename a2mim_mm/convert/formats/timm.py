"""timm: its ResNet, ConvNeXt and Swin, and all of its formats together.

Sources of the names: timm, ``models/convnext.py``, and ``models/swin_transformer.py`` of timm 0.9 and later.
"""

from dataclasses import replace

from mmpretrain.models import ConvNeXt
from torch import nn

from ..encoder import Encoder
from ..families import convnext, resnet, swin
from ..families.convnext import LAST
from ..naming import Peer, TimmNaming, Weights, as_it_is
from ..origin import CLASSIFIER, Origin
from .timm_beit import BEIT
from .timm_relpos import RELPOS
from .timm_vit import VIT

CONVNEXT_NAMES = [
    ('downsample_layers.0.*.*', 'stem.*.*'),
    *((f'downsample_layers.{i}.*.*', f'stages.{i}.downsample.*.*') for i in range(1, LAST + 1)),
    ('stages.*.*.depthwise_conv.*', 'stages.*.blocks.*.conv_dw.*'),
    ('stages.*.*.norm.*', 'stages.*.blocks.*.norm.*'),
    ('stages.*.*.pointwise_conv1.*', 'stages.*.blocks.*.mlp.fc1.*'),
    ('stages.*.*.pointwise_conv2.*', 'stages.*.blocks.*.mlp.fc2.*'),
    ('stages.*.*.grn.gamma', 'stages.*.blocks.*.mlp.grn.weight'),
    ('stages.*.*.grn.beta', 'stages.*.blocks.*.mlp.grn.bias'),
    ('stages.*.*.gamma', 'stages.*.blocks.*.gamma'),
    (f'norm{LAST}.*', 'head.norm.*'),
]
# These are microsoft's names too, except for patch merging, which timm has moved.
SWIN_NAMES = [
    ('patch_embed.projection.*', 'patch_embed.proj.*'),
    ('patch_embed.norm.*', 'patch_embed.norm.*'),
    ('stages.*.blocks.*.norm1.*', 'layers.*.blocks.*.norm1.*'),
    (f'stages.*.blocks.*.attn.w_msa.{swin.TABLE}', f'layers.*.blocks.*.attn.{swin.TABLE}'),
    (f'stages.*.blocks.*.attn.w_msa.{swin.INDEX}', f'layers.*.blocks.*.attn.{swin.INDEX}'),
    ('stages.*.blocks.*.attn.w_msa.qkv.*', 'layers.*.blocks.*.attn.qkv.*'),
    ('stages.*.blocks.*.attn.w_msa.proj.*', 'layers.*.blocks.*.attn.proj.*'),
    (f'stages.*.blocks.*.attn.{swin.MASK}', f'layers.*.blocks.*.{swin.MASK}'),
    ('stages.*.blocks.*.norm2.*', 'layers.*.blocks.*.norm2.*'),
    ('stages.*.blocks.*.ffn.layers.0.0.*', 'layers.*.blocks.*.mlp.fc1.*'),
    ('stages.*.blocks.*.ffn.layers.1.*', 'layers.*.blocks.*.mlp.fc2.*'),
    (f'norm{LAST}.*', 'norm.*'),
]
_MERGING_NAMES = [(f'stages.{i}.downsample.*.*', f'layers.{i + 1}.downsample.*.*') for i in range(LAST)]


def _convnext_model(cfg: dict, _weights: Weights) -> tuple[str, dict]:
    arch = cfg['arch']
    sizes = ConvNeXt.arch_settings[arch] if isinstance(arch, str) else arch
    # create_model drops arguments that are None. So without LayerScale, begin from a model without it.
    return 'convnext_tiny' if cfg['layer_scale_init_value'] else 'convnextv2_tiny', dict(
        in_chans=cfg['in_channels'],
        patch_size=cfg['stem_patch_size'],
        depths=sizes['depths'],
        dims=sizes['channels'],
        conv_mlp=not cfg['linear_pw_conv'],
        use_grn=cfg['use_grn'],
    )


def _convnext_peer(network: nn.Module, cfg: dict) -> Peer:
    return Peer(network, network if cfg['out_indices'] else network.forward_features)


def _swin_model(cfg: dict, _weights: Weights) -> tuple[str, dict]:
    sizes = swin.sizes_of(cfg)
    return 'swin_tiny_patch4_window7_224', dict(
        img_size=cfg['img_size'],
        patch_size=cfg['patch_size'],
        in_chans=cfg['in_channels'],
        embed_dim=sizes['embed_dims'],
        depths=sizes['depths'],
        num_heads=sizes['num_heads'],
        window_size=cfg['window_size'],
    )


def swin_prepare(weights: Weights) -> tuple[Weights, dict[str, str]]:
    """Refuse other kinds of Swin, and name what is computed."""
    swin.check_kind(weights)
    return weights, swin.reasons_for(weights, (swin.INDEX, swin.MASK))


def swin_finish(encoder: Encoder) -> Encoder:
    """The encoder with the neighbours that patch merging joins in mmpretrain's order."""
    swin.check_expressible(encoder.cfg)
    return replace(encoder, weights=swin.merging_reordered(encoder.weights, swin.to_pivot))


def _swin_express(encoder: Encoder) -> tuple[Weights, dict[str, str]]:
    swin.check_expressible(encoder.cfg)
    weights, dropped = convnext.without_early_norms(encoder.weights)
    weights = swin.merging_reordered(weights, swin.from_pivot)
    return swin.without(weights, (swin.INDEX,)), dropped | swin.reasons_for(weights, (swin.INDEX,))


RESNET = TimmNaming(
    name='timm ResNet',
    family=resnet.FAMILY,
    signature='layer1.*.conv1.weight',
    unlike='patch_embed.projection.weight',
    encoder=resnet.resnet_encoder,
    express=as_it_is,
    models=('resnet',),
    model=lambda cfg, _weights: (f'resnet{cfg["depth"]}', {}),
    as_peer=lambda network, _cfg: Peer(network, network.forward_features),
)
CONVNEXT = TimmNaming(
    name='timm ConvNeXt',
    family=convnext.FAMILY,
    signature='stages.*.blocks.*.conv_dw.weight',
    encoder=convnext.convnext_encoder,
    names=CONVNEXT_NAMES,
    refused={r'norm_pre\..*': 'this ConvNeXt has a norm before its pooling (norm_pre), not after it'},
    finish=convnext.checked_norm_and_patch,
    express=lambda encoder: convnext.without_early_norms(convnext.checked_norm_and_patch(encoder).weights),
    models=('convnext_', 'convnextv2_'),
    model=_convnext_model,
    as_peer=_convnext_peer,
)
SWIN = TimmNaming(
    name='timm Swin',
    family=swin.FAMILY,
    signature=f'layers.{LAST}.downsample.reduction.weight',
    encoder=swin.swin_encoder,
    names=[*SWIN_NAMES, *_MERGING_NAMES],
    prepare=swin_prepare,
    finish=swin_finish,
    express=_swin_express,
    models=('swin_',),
    model=_swin_model,
    as_peer=lambda network, _cfg: Peer(network, network),
    computed=(swin.INDEX, swin.MASK),
)
NAMINGS = (RESNET, VIT, BEIT, RELPOS, CONVNEXT, SWIN)  # the first that can hold an encoder is written

ORIGINS = (Origin(50, 'timm', 'timm', NAMINGS, outside=CLASSIFIER, mean_std=None),)
