"""microsoft BEiT, and ``beit_*`` of timm."""

from ..origin import CLASSIFIER, INCEPTION, Origin
from .timm_beit import BEIT

ORIGINS = (
    Origin(
        240,
        'beit',
        'microsoft BEiT',
        (BEIT,),
        outside=rf'mask_token|lm_head\..*|{CLASSIFIER}',
        mean_std=INCEPTION,  # source: unilm, beit/datasets.py, without --imagenet_default_mean_and_std
    ),
)
