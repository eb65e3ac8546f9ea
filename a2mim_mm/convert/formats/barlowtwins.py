"""facebookresearch Barlow Twins."""

from ..origin import Origin
from .torchvision import RESNET

ORIGINS = (
    Origin(
        210,
        'barlowtwins',
        'facebookresearch Barlow Twins',
        (RESNET,),
        prefix='backbone.',
        outside=r'projector\..*|bn\..*',
        sign=r'projector\..*',
    ),
)
