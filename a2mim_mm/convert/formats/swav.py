"""facebookresearch SwAV."""

from ..origin import Origin
from .torchvision import RESNET

ORIGINS = (
    Origin(
        200,
        'swav',
        'facebookresearch SwAV',
        (RESNET,),
        outside=r'projection_head\..*|prototypes\..*',
        sign=r'prototypes\..*',
    ),
)
