"""Names of timm's VisionTransformerRelPos, with bias tables: ViTs without position embedding."""

from torch import nn

from a2mim_mm.backbones.vit import TABLE

from ..encoder import ConversionError, Encoder
from ..naming import Hints, TimmNaming, Weights, rename, swapped
from ..vit import vit_encoder
from .timm_vit import NAMES as VIT_NAMES
from .timm_vit import timm_arguments, timm_peer

NAMES = [
    *VIT_NAMES,
    (TABLE, f'shared_rel_pos.{TABLE}'),
    (f'layers.*.attn.{TABLE}', f'blocks.*.attn.rel_pos.{TABLE}'),
]


class TimmRelPosNaming(TimmNaming):
    """timm's ``vit_relpos_*`` of ``rel_pos_type='bias'``, with or without a cls token."""

    name = 'timm ViT with relative position bias'
    models = ('vit_relpos_',)
    family = 'A2MIMViT'

    def claims(self, names: list[str]) -> bool:
        """A table of either place."""
        shared = f'shared_rel_pos.{TABLE}'
        return any(name == shared or name.endswith(f'.attn.rel_pos.{TABLE}') for name in names)

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        return vit_encoder(rename(weights, swapped(NAMES), self.name), hints)

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        if encoder.cfg['abs_pos_embed'] or encoder.cfg['rel_pos_bias'] is None:
            raise ConversionError(
                "timm's vit_relpos_* has bias tables and no position embedding: beit_* holds this encoder if "
                'it has a cls token'
            )
        return rename(encoder.weights, NAMES, self.name), {}

    def model(self, cfg: dict, weights: Weights) -> tuple[str, dict]:
        """See :meth:`TimmNaming.model`."""
        del weights
        return 'vit_relpos_base_patch16_224', dict(
            class_token=cfg['with_cls_token'],
            shared_rel_pos=cfg['rel_pos_bias'] == 'shared',
            rel_pos_type='bias',
            fc_norm=cfg['out_type'] == 'avg_featmap',
            **timm_arguments(cfg),
        )

    def as_peer(self, network: nn.Module, cfg: dict) -> nn.Module:
        """See :meth:`TimmNaming.as_peer`."""
        return timm_peer(network, cfg)
