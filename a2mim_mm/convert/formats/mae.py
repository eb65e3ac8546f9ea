"""facebookresearch MAE, with its decoder."""

from ..origin import CLASSIFIER, Origin
from .timm_vit import VIT

ORIGINS = (
    Origin(
        70,
        'mae',
        'facebookresearch MAE',
        (VIT,),
        outside=rf'mask_token|decoder_.*|{CLASSIFIER}',
        sign=r'decoder_pred\.weight',
    ),
)
