"""facebookresearch DINO."""

from ..origin import Origin
from .timm_vit import VIT
from .torchvision import RESNET

ORIGINS = (
    Origin(
        150,
        'dino',
        'facebookresearch DINO',
        (VIT, RESNET),
        prefix='backbone.',
        outside=r'head\..*',
        entries=('teacher', 'student'),
    ),
)
