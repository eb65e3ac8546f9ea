"""facebookresearch DINOv2: published weights, and what its training writes."""

from ..origin import Origin
from .timm_vit import VIT

ORIGINS = (
    Origin(
        80,
        'dinov2',
        'facebookresearch DINOv2',
        (VIT,),
        outside=r'mask_token|(head|linear_head|dino_head|ibot_head)\..*',
        sign=r'blocks\.\d+\.ls1\.gamma',
    ),
    Origin(
        90,
        'dinov2-training',
        'facebookresearch DINOv2, as training wrote it',
        (VIT,),
        prefix='backbone.',
        outside=r'backbone\.mask_token|(dino_head|ibot_head)\..*',
        sign=r'backbone\.blocks\.\d+\.ls1\.gamma',
        entries=('teacher', 'student'),
    ),
    Origin(
        100,
        'dinov2-teacher',
        'facebookresearch DINOv2, teacher and student in one',
        (VIT,),
        prefix='teacher.backbone.',
        outside=r'(?!teacher\.backbone\.).*|teacher\.backbone\.mask_token',
        sign=r'teacher\.backbone\.blocks\.\d+\.ls1\.gamma',
    ),
)
