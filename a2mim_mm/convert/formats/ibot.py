"""bytedance iBOT."""

from ..origin import Origin
from .timm_vit import VIT

ORIGINS = (
    Origin(
        160,
        'ibot',
        'bytedance iBOT',
        (VIT,),
        prefix='backbone.',
        outside=r'head\..*|backbone\.masked_embed',
        sign=r'backbone\.masked_embed',
        entries=('teacher', 'student'),
    ),
)
