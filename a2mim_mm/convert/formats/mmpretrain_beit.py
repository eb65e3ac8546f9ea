"""Names of mmpretrain's BEiTViT: BEiT, CAE, and the ViT of the authors' released A2MIM.

Sources: mmpretrain, ``models/backbones/beit.py``; Westlake-AI/openmixup.
"""

from torch import nn

from a2mim_mm.backbones.relative_position import relative_position_index
from a2mim_mm.backbones.vit import TABLE

from ..encoder import ConversionError, Encoder, build_backbone
from ..naming import Hints, Naming, Peer, Weights, rename, swapped
from ..vit import drop_indices, fuse_biases, grid_of, split_biases, vit_encoder

NAMES = [
    (TABLE, f'rel_pos_bias.{TABLE}'),
    ('layers.*.attn.gamma1.weight', 'layers.*.gamma_1'),
    ('layers.*.ffn.gamma2.weight', 'layers.*.gamma_2'),
    ('cls_token', 'cls_token'),
    ('pos_embed', 'pos_embed'),
    ('patch_embed.projection.*', 'patch_embed.projection.*'),
    ('layers.*.ln1.*', 'layers.*.ln1.*'),
    ('layers.*.attn.qkv.*', 'layers.*.attn.qkv.*'),
    ('layers.*.attn.proj.*', 'layers.*.attn.proj.*'),
    (f'layers.*.attn.{TABLE}', f'layers.*.attn.{TABLE}'),
    ('layers.*.attn.q_bias', 'layers.*.attn.q_bias'),
    ('layers.*.attn.v_bias', 'layers.*.attn.v_bias'),
    ('layers.*.ln2.*', 'layers.*.ln2.*'),
    ('layers.*.ffn.layers.0.0.*', 'layers.*.ffn.layers.0.0.*'),
    ('layers.*.ffn.layers.1.*', 'layers.*.ffn.layers.1.*'),
    ('ln1.*', 'ln1.*'),
    ('ln2.*', 'ln2.*'),
]
_INDEX = 'relative_position_index'


class MMBEiTNaming(Naming):
    """mmpretrain's BEiTViT, of any choice of position embedding, bias tables and LayerScale."""

    name = 'mmpretrain BEiT'
    family = 'A2MIMViT'
    signature = 'layers.*.attn.q_bias'
    names = NAMES

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        weights, computed = drop_indices(weights, _INDEX)
        weights, folded = fuse_biases(weights, 'layers.*.attn')
        return vit_encoder(rename(weights, swapped(self.names), self.name), hints, computed | folded)

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        if not encoder.cfg['with_cls_token']:
            raise ConversionError('BEiTViT runs with a cls token only')
        weights, dropped = split_biases(encoder.weights, 'layers.*.attn')
        weights = rename(weights, self.names, self.name)
        index = relative_position_index(grid_of(encoder.cfg), with_cls=True).long()
        tables = [name for name in weights if name.endswith(TABLE)]
        weights |= {f'{name.removesuffix(TABLE)}{_INDEX}': index.clone() for name in tables}
        return weights, dropped

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`."""
        network = build_backbone(
            dict(
                type='mmpretrain.BEiTViT',
                use_abs_pos_emb=cfg['abs_pos_embed'],
                use_rel_pos_bias=cfg['rel_pos_bias'] == 'layer',
                use_shared_rel_pos_bias=cfg['rel_pos_bias'] == 'shared',
                bias='qv_bias' if 'layers.0.attn.q_bias' in weights else cfg['qkv_bias'],
                **{
                    key: cfg[key]
                    for key in (
                        'arch',
                        'img_size',
                        'patch_size',
                        'in_channels',
                        'with_cls_token',
                        'layer_scale_init_value',
                        'final_norm',
                        'out_type',
                    )
                },
            )
        )
        # The order of relative positions, which a file may leave out, is computed as well.
        indices = {name: buffer for name, buffer in network.named_buffers() if name.endswith(_INDEX)}
        network.load_state_dict(indices | weights)
        return Peer(network, lambda image: network(image)[-1])


class OpenMixupNaming(MMBEiTNaming):
    """ViT of OpenMixup, where the shared table and the norm of the mean are called otherwise.

    It is compared through mmpretrain's BEiTViT: OpenMixup needs mmcv 1 and cannot be installed beside mmcv 2.
    """

    name = 'OpenMixup ViT'
    names = [
        (TABLE, f'shared_rel_pos_bias.{TABLE}'),
        ('ln2.*', 'fc_norm.*'),
        *(pair for pair in NAMES if pair[0] not in (TABLE, 'ln2.*')),
    ]

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`."""
        theirs = [
            ('fc_norm.*', 'ln2.*'),
            ('shared_rel_pos_bias.*', 'rel_pos_bias.*'),
            *((name, name) for name in (*weights,)),
        ]
        return super().peer(cfg, rename(weights, theirs, self.name))
