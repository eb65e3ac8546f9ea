"""timm's Beit: microsoft's BEiT and SimMIM, timm's ``beit_*``; holds every ViT with a cls token."""

from a2mim_mm.backbones.vit import TABLE

from ..encoder import ConversionError, Encoder
from ..families.vit import FAMILY, beit_prepare, split_biases, vit_encoder
from ..naming import TimmNaming, Weights
from .timm_vit import BLOCK_NAMES, timm_arguments, timm_peer

_INDEX = 'relative_position_index'
NAMES = [
    *BLOCK_NAMES,
    (TABLE, f'rel_pos_bias.{TABLE}'),
    (f'layers.*.attn.{TABLE}', f'blocks.*.attn.{TABLE}'),
    ('layers.*.attn.q_bias', 'blocks.*.attn.q_bias'),
    ('layers.*.attn.v_bias', 'blocks.*.attn.v_bias'),
    ('layers.*.attn.gamma1.weight', 'blocks.*.gamma_1'),
    ('layers.*.ffn.gamma2.weight', 'blocks.*.gamma_2'),
]


def _model(cfg: dict, _weights: Weights) -> tuple[str, dict]:
    return 'beit_base_patch16_224', dict(
        use_abs_pos_emb=cfg['abs_pos_embed'],
        use_rel_pos_bias=cfg['rel_pos_bias'] == 'layer',
        use_shared_rel_pos_bias=cfg['rel_pos_bias'] == 'shared',
        use_fc_norm=cfg['out_type'] == 'avg_featmap',
        **timm_arguments(cfg),
    )


def _express(encoder: Encoder) -> tuple[Weights, dict[str, str]]:
    if not encoder.cfg['with_cls_token']:
        raise ConversionError("timm's beit_* has a cls token, this encoder none: vit_relpos_* holds it")
    return split_biases(encoder.weights)


BEIT = TimmNaming(
    name='timm BEiT',
    family=FAMILY,
    signature='blocks.*.attn.q_bias',
    encoder=vit_encoder,
    names=NAMES,
    prepare=beit_prepare('blocks.*.attn', _INDEX),
    express=_express,
    models=('beit_',),
    model=_model,
    as_peer=timm_peer,
    computed=(_INDEX,),
)
