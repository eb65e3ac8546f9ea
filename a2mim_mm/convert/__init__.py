"""Checkpoints of other libraries to this one's and back: a table of origins, one of targets, one pivot."""

from .convert import TARGETS, convert_checkpoint
from .encoder import ConversionError, Encoder
from .formats import ORIGINS

__all__ = ['ORIGINS', 'TARGETS', 'ConversionError', 'Encoder', 'convert_checkpoint']
