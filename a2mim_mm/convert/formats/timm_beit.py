"""Names of timm's Beit: microsoft's BEiT and SimMIM, timm's ``beit_*``; holds every ViT with a cls token."""

from torch import nn

from a2mim_mm.backbones.vit import TABLE

from ..encoder import ConversionError, Encoder
from ..naming import Hints, TimmNaming, Weights, rename, swapped
from ..vit import drop_indices, fuse_biases, split_biases, vit_encoder
from .timm_vit import BLOCK_NAMES, timm_arguments, timm_peer

NAMES = [
    *BLOCK_NAMES,
    (TABLE, f'rel_pos_bias.{TABLE}'),
    (f'layers.*.attn.{TABLE}', f'blocks.*.attn.{TABLE}'),
    ('layers.*.attn.q_bias', 'blocks.*.attn.q_bias'),
    ('layers.*.attn.v_bias', 'blocks.*.attn.v_bias'),
    ('layers.*.attn.gamma1.weight', 'blocks.*.gamma_1'),
    ('layers.*.ffn.gamma2.weight', 'blocks.*.gamma_2'),
]

_INDEX = 'relative_position_index'


class TimmBEiTNaming(TimmNaming):
    """timm's ``beit_*``, with any choice of position embedding, bias tables and LayerScale."""

    name = 'timm BEiT'
    models = ('beit_',)
    family = 'A2MIMViT'
    signature = 'blocks.*.attn.q_bias'

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        weights, computed = drop_indices(weights, _INDEX)
        weights, folded = fuse_biases(weights, 'blocks.*.attn')
        return vit_encoder(rename(weights, swapped(NAMES), self.name), hints, computed | folded)

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        if not encoder.cfg['with_cls_token']:
            raise ConversionError("timm's beit_* has a cls token, this encoder none: vit_relpos_* holds it")
        weights, dropped = split_biases(encoder.weights, 'layers.*.attn')
        return rename(weights, NAMES, self.name), dropped

    def model(self, cfg: dict, weights: Weights) -> tuple[str, dict]:
        """See :meth:`TimmNaming.model`."""
        del weights
        return 'beit_base_patch16_224', dict(
            use_abs_pos_emb=cfg['abs_pos_embed'],
            use_rel_pos_bias=cfg['rel_pos_bias'] == 'layer',
            use_shared_rel_pos_bias=cfg['rel_pos_bias'] == 'shared',
            use_fc_norm=cfg['out_type'] == 'avg_featmap',
            **timm_arguments(cfg),
        )

    def as_peer(self, network: nn.Module, cfg: dict) -> nn.Module:
        """See :meth:`TimmNaming.as_peer`."""
        return timm_peer(network, cfg)

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`; timm keeps no order of relative positions."""
        kept = {name: tensor for name, tensor in weights.items() if not name.endswith(_INDEX)}
        return super().peer(cfg, kept)
