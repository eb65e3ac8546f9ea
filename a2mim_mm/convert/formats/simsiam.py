"""facebookresearch SimSiam."""

from ..origin import Origin
from .torchvision import RESNET

ORIGINS = (
    Origin(
        190,
        'simsiam',
        'facebookresearch SimSiam',
        (RESNET,),
        prefix='encoder.',
        outside=r'encoder\.fc\..*|predictor\..*',
    ),
)
