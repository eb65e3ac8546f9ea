"""What surrounds the model while it trains: launching, hooks, learning rates, reading checkpoints safely."""

from .checkpoint import CheckpointError, StrictLoadHook, install_safe_loader, load_checkpoint_file
from .launch import AutocastOptimWrapper
from .layer_decay import LayerDecayOptimWrapperConstructor
from .pretrained import start_from_pretrained
from .reconstruction_hook import ReconstructionHook
from .reconstruction_loss import ReconstructionLoss
from .throughput_hook import ThroughputHook
from .unreadable_hook import TooManyUnreadableImagesError, UnreadableImagesHook

__all__ = [
    'AutocastOptimWrapper',
    'CheckpointError',
    'LayerDecayOptimWrapperConstructor',
    'ReconstructionHook',
    'ReconstructionLoss',
    'StrictLoadHook',
    'ThroughputHook',
    'TooManyUnreadableImagesError',
    'UnreadableImagesHook',
    'install_safe_loader',
    'load_checkpoint_file',
    'start_from_pretrained',
]
