"""Names of timm's VisionTransformer: timm, and what is built on it (MAE, DeiT, DINO, MoCo v3)."""

import math
import re

from torch import nn

from ..encoder import ConversionError, Encoder
from ..naming import Hints, Peer, TimmNaming, Weights, rename, swapped
from ..vit import arch_of, grid_of, tokens_or_mean, vit_encoder

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


class TimmViTNaming(TimmNaming):
    """timm's ``vit_*`` and ``deit_*``."""

    name = 'timm ViT'
    models = ('vit_', 'deit_')
    family = 'A2MIMViT'
    signature = 'blocks.*.attn.qkv.bias'
    unlike = 'blocks.*.attn.rel_pos.relative_position_bias_table'

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        if any(name.startswith('dist_token') for name in weights):
            raise ConversionError('a distillation token (DeiT, distilled) is in no encoder of this package')
        if any(name in ('register_tokens', 'reg_token') for name in weights):
            raise ConversionError('register tokens (DINOv2 with registers) are in no encoder of this package')
        if any(re.search(r'\.mlp\.(w12|w1|w3|fc1_g)\.', name) for name in weights):
            raise ConversionError('SwiGLU layers (DINOv2 ViT-g) are in no encoder of this package')
        return vit_encoder(rename(weights, swapped(NAMES), self.name), hints)

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        if encoder.cfg['rel_pos_bias'] is not None or not encoder.cfg['abs_pos_embed']:
            raise ConversionError(
                "timm's plain ViT (vit_*, deit_*) has no relative position bias and always a position "
                'embedding: beit_* holds this encoder if it has a cls token, vit_relpos_* if it has no '
                'position embedding'
            )
        return rename(encoder.weights, NAMES, self.name), {}

    def model(self, cfg: dict, weights: Weights) -> tuple[str, dict]:
        """See :meth:`TimmNaming.model`."""
        position = weights['pos_embed'].shape[1]
        without_cls = cfg['with_cls_token'] and position == math.prod(grid_of(cfg))
        return 'vit_base_patch16_224', dict(
            class_token=cfg['with_cls_token'],
            no_embed_class=without_cls,
            fc_norm=cfg['out_type'] == 'avg_featmap',
            **timm_arguments(cfg),
        )

    def as_peer(self, network: nn.Module, cfg: dict) -> nn.Module:
        """See :meth:`TimmNaming.as_peer`."""
        return timm_peer(network, cfg)


def timm_arguments(cfg: dict) -> dict:
    """Arguments that all of timm's ViTs share, from a pivot's config.

    Raises:
        ConversionError: If timm has no norm where the encoder has two, or none.
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


def timm_peer(network: nn.Module, cfg: dict) -> nn.Module:
    """A timm ViT with its ``features``."""
    return Peer(network, tokens_or_mean(cfg, network.forward_features, network.fc_norm))
