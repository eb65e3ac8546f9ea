"""timm's VisionTransformer: timm, and what is built on it (MAE, DeiT, DINO, MoCo v3)."""

import math

from torch import nn

from ..encoder import ConversionError, Encoder
from ..families.vit import FAMILY, arch_of, grid_of, tokens_or_mean, vit_encoder
from ..naming import Peer, TimmNaming, Weights

BLOCK_NAMES = [
    ('cls_token', 'cls_token'),
    ('pos_embed', 'pos_embed'),
    ('patch_embed.projection.*', 'patch_embed.proj.*'),
    ('layers.*.ln1.*', 'blocks.*.norm1.*'),
    ('layers.*.attn.qkv.*', 'blocks.*.attn.qkv.*'),
    ('layers.*.attn.proj.*', 'blocks.*.attn.proj.*'),
    ('layers.*.ln2.*', 'blocks.*.norm2.*'),
    ('layers.*.ffn.layers.0.0.*', 'blocks.*.mlp.fc1.*'),
    ('layers.*.ffn.layers.1.*', 'blocks.*.mlp.fc2.*'),
    ('ln1.*', 'norm.*'),
    ('ln2.*', 'fc_norm.*'),
]
NAMES = [
    *BLOCK_NAMES,
    ('layers.*.attn.gamma1.weight', 'blocks.*.ls1.gamma'),
    ('layers.*.ffn.gamma2.weight', 'blocks.*.ls2.gamma'),
]


def timm_peer(network: nn.Module, cfg: dict) -> Peer:
    """A ViT of timm, compared by its tokens or their normalised mean."""
    return Peer(network, tokens_or_mean(cfg, network.forward_features, network.fc_norm))


def timm_arguments(cfg: dict) -> dict:
    """Arguments that all of timm's ViTs share, from a pivot's config.

    Raises:
        ConversionError: If the encoder has both norms, or none, where timm has one.
    """
    mean = cfg['out_type'] == 'avg_featmap'
    if mean == cfg['final_norm']:
        raise ConversionError(
            "timm's ViTs normalise tokens or their mean: this encoder has both norms, or none"
        )
    sizes = arch_of(cfg)
    return dict(
        img_size=cfg['img_size'],
        patch_size=cfg['patch_size'],
        in_chans=cfg['in_channels'],
        embed_dim=sizes['embed_dims'],
        depth=sizes['num_layers'],
        num_heads=sizes['num_heads'],
        mlp_ratio=sizes['feedforward_channels'] / sizes['embed_dims'],
        qkv_bias=cfg['qkv_bias'],
        init_values=cfg['layer_scale_init_value'],
        global_pool='avg' if mean or not cfg['with_cls_token'] else 'token',
    )


def _model(cfg: dict, weights: Weights) -> tuple[str, dict]:
    position = weights['pos_embed'].shape[1]
    without_cls = cfg['with_cls_token'] and position == math.prod(grid_of(cfg))
    return 'vit_base_patch16_224', dict(
        class_token=cfg['with_cls_token'],
        no_embed_class=without_cls,
        fc_norm=cfg['out_type'] == 'avg_featmap',
        **timm_arguments(cfg),
    )


def _express(encoder: Encoder) -> tuple[Weights, dict[str, str]]:
    if encoder.cfg['rel_pos_bias'] is not None or not encoder.cfg['abs_pos_embed']:
        raise ConversionError(
            "timm's plain ViT (vit_*, deit_*) has no relative position bias and always a position "
            'embedding: beit_* holds this encoder if it has a cls token, vit_relpos_* if it has no '
            'position embedding'
        )
    return encoder.weights, {}


VIT = TimmNaming(
    name='timm ViT',
    family=FAMILY,
    signature='blocks.*.attn.qkv.bias',
    unlike='blocks.*.attn.rel_pos.relative_position_bias_table',
    encoder=vit_encoder,
    names=NAMES,
    refused={
        r'dist_token.*': 'a distillation token (DeiT, distilled) is in no encoder of this package',
        r'register_tokens|reg_token': 'register tokens (DINOv2 with registers) are in no encoder of this '
        'package',
        r'.*\.mlp\.(w12|w1|w3|fc1_g)\..*': 'SwiGLU layers (DINOv2 ViT-g) are in no encoder of this package',
    },
    express=_express,
    models=('vit_', 'deit_'),
    model=_model,
    as_peer=timm_peer,
)
