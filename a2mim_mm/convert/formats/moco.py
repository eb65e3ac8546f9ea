"""facebookresearch MoCo v1, v2 and v3."""

from ..origin import Origin
from .timm_vit import VIT
from .torchvision import RESNET

ORIGINS = (
    Origin(
        170,
        'moco',
        'facebookresearch MoCo v1 or v2',
        (RESNET,),
        prefix='encoder_q.',
        outside=r'encoder_k\..*|queue|queue_ptr|encoder_q\.fc\..*',
    ),
    Origin(
        180,
        'moco-v3',
        'facebookresearch MoCo v3',
        (VIT, RESNET),
        prefix='base_encoder.',
        outside=r'momentum_encoder\..*|predictor\..*|base_encoder\.(head|fc)\..*',
        heads_by_width={384: 12},  # source: moco-v3, vits.py, vit_small
    ),
)
