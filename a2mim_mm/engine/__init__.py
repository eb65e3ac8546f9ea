"""What surrounds a training: config, machine, start, hooks, and how a tool runs."""

from a2mim_mm import quiet  # noqa: F401, before anything imports mmpretrain's data sets

from . import hooks
from .machine import AutocastOptimWrapper
from .reconstruction_loss import ReconstructionLoss

__all__ = ['AutocastOptimWrapper', 'ReconstructionLoss', 'hooks']
