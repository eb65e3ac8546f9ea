"""Everything around a training: config, machine, start, hooks and tools."""

from a2mim_mm import quiet  # noqa: F401, before anything imports mmpretrain's data sets

from . import hooks
from .machine import AutocastOptimWrapper
from .reconstruction_loss import ReconstructionLoss

__all__ = ['AutocastOptimWrapper', 'ReconstructionLoss', 'hooks']
