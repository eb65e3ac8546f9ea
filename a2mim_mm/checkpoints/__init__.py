"""Checkpoints as data: read without running code, and loaded completely or not at all."""

from .backbone import load_pretrained
from .errors import CheckpointError
from .read import install_safe_loader, load_checkpoint_file

__all__ = ['CheckpointError', 'install_safe_loader', 'load_checkpoint_file', 'load_pretrained']
