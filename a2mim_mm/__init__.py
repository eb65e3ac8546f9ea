"""A2MIM: Architecture-Agnostic Masked Image Modeling, as a plugin for OpenMMLab.

Importing the package registers its registries and nothing else; a class is
imported when a config first names it (``type='a2mim_mm.A2MIM'``).
"""

from . import registry
from .version import __version__

__all__ = ['__version__', 'registry']
