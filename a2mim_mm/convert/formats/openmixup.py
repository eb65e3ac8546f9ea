"""OpenMixup, with the authors' released code of A2MIM (Westlake-AI/openmixup), and backbones alone.

Its ViT is compared through mmpretrain's BEiTViT: OpenMixup needs mmcv 1, which cannot be installed next to
mmcv 2.
"""

from a2mim_mm.backbones.vit import TABLE

from ..families import vit
from ..naming import Naming, Peer, Weights, rename
from ..origin import Origin
from .openmmlab import BEIT, BEIT_NAMES, NAMINGS, beit_peer

_DIFFERENT = [(TABLE, f'shared_rel_pos_bias.{TABLE}'), ('ln2.*', 'fc_norm.*')]


def _peer(cfg: dict, weights: Weights) -> Peer:
    of_beit = [('fc_norm.*', 'ln2.*'), ('shared_rel_pos_bias.*', 'rel_pos_bias.*')]
    return beit_peer(cfg, rename(weights, [*of_beit, *((name, name) for name in weights)], VIT.name))


VIT = Naming(
    name='OpenMixup ViT',
    family=vit.FAMILY,
    signature=BEIT.signature,
    encoder=vit.vit_encoder,
    build=_peer,
    names=[*_DIFFERENT, *(pair for pair in BEIT_NAMES if pair[0] not in dict(_DIFFERENT))],
    prepare=BEIT.prepare,
)

ORIGINS = (
    Origin(
        20,
        'openmixup',
        'OpenMixup, with the released code of A2MIM',
        (VIT, *NAMINGS),
        prefix='backbone.',
        outside=r'(?!backbone\.).*|backbone\.mask_(token|gamma)',
        sign=r'backbone\.mask_gamma|neck\.decoder_pred\..*|ema_backbone_.*',
    ),
    Origin(
        40,
        'mmpretrain-backbone',
        'backbone of mmpretrain, OpenMixup or a2mim_mm',
        (*NAMINGS, VIT),
        outside=r'mask_(token|gamma)',
        mean_std=None,
    ),
)
