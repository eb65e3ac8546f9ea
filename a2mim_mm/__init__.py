"""A2MIM: Architecture-Agnostic Masked Image Modeling, as a plugin for OpenMMLab.

Importing the package registers its registries and nothing else; a class is
imported when a config first names it (``type='a2mim_mm.A2MIM'``).
"""

from . import registry
from .version import __version__

__all__ = ['TimmBackbone', '__version__', 'pretrain', 'registry']


def __getattr__(name: str) -> object:
    if name == 'pretrain':
        from .pretraining.run import pretrain

        return pretrain
    if name == 'TimmBackbone':
        from .backbones import timm_backbone

        return timm_backbone
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
