"""timm's VisionTransformerRelPos with bias tables: ViTs without position embedding."""

from a2mim_mm.backbones.vit import TABLE

from ..encoder import ConversionError, Encoder
from ..families.vit import FAMILY, vit_encoder
from ..naming import TimmNaming, Weights
from .timm_vit import NAMES as VIT_NAMES
from .timm_vit import timm_arguments, timm_peer

_SHARED, _OF_LAYER = f'shared_rel_pos.{TABLE}', f'blocks.*.attn.rel_pos.{TABLE}'


def _model(cfg: dict, _weights: Weights) -> tuple[str, dict]:
    return 'vit_relpos_base_patch16_224', dict(
        class_token=cfg['with_cls_token'],
        shared_rel_pos=cfg['rel_pos_bias'] == 'shared',
        rel_pos_type='bias',
        fc_norm=cfg['out_type'] == 'avg_featmap',
        **timm_arguments(cfg),
    )


def _express(encoder: Encoder) -> tuple[Weights, dict[str, str]]:
    if encoder.cfg['abs_pos_embed'] or encoder.cfg['rel_pos_bias'] is None:
        raise ConversionError(
            "timm's vit_relpos_* has bias tables and no position embedding: beit_* holds this encoder if it "
            'has a cls token'
        )
    return encoder.weights, {}


RELPOS = TimmNaming(
    name='timm ViT with relative position bias',
    family=FAMILY,
    signature=(_SHARED, _OF_LAYER),
    encoder=vit_encoder,
    names=[*VIT_NAMES, (TABLE, _SHARED), (f'layers.*.attn.{TABLE}', _OF_LAYER)],
    express=_express,
    models=('vit_relpos_',),
    model=_model,
    as_peer=timm_peer,
)
