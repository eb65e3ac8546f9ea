"""mmpretrain, mmselfsup, mmcls, mmdet, mmseg, and this package: the pivot's own names, and BEiT's.

Sources: mmpretrain, ``models/backbones/``.
"""

from torch import nn

from a2mim_mm.backbones.vit import TABLE
from a2mim_mm.checkpoints.load import build_network

from ..families import convnext, resnet, swin, vit
from ..naming import Naming, Peer, Weights, as_it_is, filled, last_output
from ..origin import Origin

INDEX = 'relative_position_index'
BEIT_NAMES = [
    (TABLE, f'rel_pos_bias.{TABLE}'),
    ('layers.*.attn.gamma1.weight', 'layers.*.gamma_1'),
    ('layers.*.ffn.gamma2.weight', 'layers.*.gamma_2'),
    *(
        (name, name)
        for name in (
            'cls_token',
            'pos_embed',
            'patch_embed.projection.*',
            'layers.*.ln1.*',
            'layers.*.attn.qkv.*',
            'layers.*.attn.proj.*',
            f'layers.*.attn.{TABLE}',
            'layers.*.attn.q_bias',
            'layers.*.attn.v_bias',
            'layers.*.ln2.*',
            'layers.*.ffn.layers.0.0.*',
            'layers.*.ffn.layers.1.*',
            'ln1.*',
            'ln2.*',
        )
    ),
]
_SHARED_WITH_BEIT = (
    *('arch', 'img_size', 'patch_size', 'in_channels', 'with_cls_token'),
    *('layer_scale_init_value', 'final_norm', 'out_type'),
)


def _vit_peer(cfg: dict, weights: Weights) -> Peer:
    """VisionTransformer, or A2MIMViT where the encoder has a position bias or no position embedding."""
    if cfg['rel_pos_bias'] is None and cfg['abs_pos_embed']:
        cfg = {key: cfg[key] for key in cfg if key not in ('rel_pos_bias', 'abs_pos_embed')}
        cfg['type'] = 'mmpretrain.VisionTransformer'
    return last_output(filled(cfg, weights))


def beit_peer(cfg: dict, weights: Weights) -> Peer:
    """BEiTViT, which computes the order of relative positions where a file leaves it out."""
    beit = dict(
        type='mmpretrain.BEiTViT',
        use_abs_pos_emb=cfg['abs_pos_embed'],
        use_rel_pos_bias=cfg['rel_pos_bias'] == 'layer',
        use_shared_rel_pos_bias=cfg['rel_pos_bias'] == 'shared',
        bias='qv_bias' if 'layers.0.attn.q_bias' in weights else cfg['qkv_bias'],
        **{key: cfg[key] for key in _SHARED_WITH_BEIT},
    )
    return last_output(_filled_up(beit, weights, INDEX))


def _convnext_peer(cfg: dict, weights: Weights) -> Peer:
    network = filled(cfg, weights)
    if cfg['out_indices']:
        return last_output(network)
    layers = zip(network.downsample_layers, network.stages, strict=True)
    return Peer(network, nn.Sequential(*(layer for pair in layers for layer in pair)))


def _swin_peer(cfg: dict, weights: Weights) -> Peer:
    network = _filled_up(cfg, swin.without(weights, (swin.MASK,)), swin.INDEX)
    if cfg['norm_cfg'] is None:
        return last_output(network)
    return Peer(network, lambda image: network(image)[-1].mean((-2, -1)))


def _filled_up(cfg: dict, weights: Weights, computed: str) -> nn.Module:
    """A network filled strictly; buffers with an ending are its own where the weights lack them."""
    network = build_network(cfg)
    buffers = {name: buffer for name, buffer in network.named_buffers() if name.endswith(computed)}
    network.load_state_dict(buffers | weights)
    return network


def _swin_prepare(weights: Weights) -> tuple[Weights, dict[str, str]]:
    swin.check_kind(weights)
    return weights, swin.reasons_for(weights, (swin.MASK,))


RESNET = Naming(
    name='mmpretrain ResNet',
    family=resnet.FAMILY,
    signature='layer1.*.conv1.weight',
    unlike='patch_embed.projection.weight',
    encoder=resnet.resnet_encoder,
    build=lambda cfg, weights: last_output(filled(cfg, weights)),
    express=as_it_is,
)
VIT = Naming(
    name='mmpretrain ViT',
    family=vit.FAMILY,
    signature='layers.*.ffn.layers.0.0.weight',
    unlike='layers.*.attn.q_bias',
    encoder=vit.vit_encoder,
    build=_vit_peer,
    express=as_it_is,
)
BEIT = Naming(
    name='mmpretrain BEiT',
    family=vit.FAMILY,
    signature='layers.*.attn.q_bias',
    encoder=vit.vit_encoder,
    build=beit_peer,
    names=BEIT_NAMES,
    prepare=vit.beit_prepare('layers.*.attn', INDEX),
)
CONVNEXT = Naming(
    name='mmpretrain ConvNeXt',
    family=convnext.FAMILY,
    signature='stages.*.*.depthwise_conv.weight',
    encoder=convnext.convnext_encoder,
    build=_convnext_peer,
    express=as_it_is,
)
SWIN = Naming(
    name='mmpretrain Swin',
    family=swin.FAMILY,
    signature='stages.*.blocks.*.attn.w_msa.qkv.weight',
    encoder=swin.swin_encoder,
    build=_swin_peer,
    prepare=_swin_prepare,
    express=as_it_is,
)
NAMINGS = (RESNET, VIT, BEIT, CONVNEXT, SWIN)
WRITTEN = {naming.family: naming for naming in NAMINGS if naming.express}

ORIGINS = (
    Origin(
        10,
        'a2mim',
        'pre-training of a2mim_mm',
        NAMINGS,
        prefix='backbone.',
        outside=r'(?!backbone\.).*',
        sign=r'mask_token\.token',
    ),
    Origin(
        30,
        'mmpretrain',
        'mmpretrain, mmselfsup, mmcls, mmdet or mmseg',
        NAMINGS,
        prefix='backbone.',
        outside=r'(?!backbone\.).*|backbone\.mask_token',
        mean_std=None,
    ),
)
