"""What surrounds the model while it trains: launching, hooks, learning rates, reading checkpoints safely."""

from a2mim_mm import quiet  # noqa: F401, before anything imports mmpretrain's data sets

from .checkpoint import CheckpointError, StrictLoadHook, install_safe_loader, load_checkpoint_file
from .classes_hook import ClassesHook
from .console import HeaderHook, OneLrHook
from .finite_hook import FiniteHook, NonFiniteError
from .labelled_data import check_labelled_data
from .launch import AutocastOptimWrapper
from .layer_decay import LayerDecayOptimWrapperConstructor
from .pretrained import load_pretrained, start_from_pretrained
from .reconstruction_hook import ReconstructionHook
from .reconstruction_loss import ReconstructionLoss
from .schedule import ScheduleHook
from .throughput_hook import ThroughputHook
from .unreadable_hook import TooManyUnreadableImagesError, UnreadableImagesHook

__all__ = [
    'AutocastOptimWrapper',
    'CheckpointError',
    'ClassesHook',
    'FiniteHook',
    'HeaderHook',
    'LayerDecayOptimWrapperConstructor',
    'NonFiniteError',
    'OneLrHook',
    'ReconstructionHook',
    'ReconstructionLoss',
    'ScheduleHook',
    'StrictLoadHook',
    'ThroughputHook',
    'TooManyUnreadableImagesError',
    'UnreadableImagesHook',
    'check_labelled_data',
    'install_safe_loader',
    'load_checkpoint_file',
    'load_pretrained',
    'start_from_pretrained',
]
