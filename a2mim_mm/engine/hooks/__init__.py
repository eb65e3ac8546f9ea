"""The hooks that watch a training, one in each file."""

from .classes import ClassesHook
from .finite import FiniteHook, NonFiniteError
from .header import HeaderHook
from .live_line import LiveLineHook
from .one_lr import OneLrHook
from .pretrained import start_from_pretrained
from .reconstruction import ReconstructionHook
from .save_backbone import SaveBackboneHook
from .schedule import ScheduleHook
from .strict_load import StrictLoadHook
from .throughput import ThroughputHook
from .unreadable import TooManyUnreadableImagesError, UnreadableImagesHook

__all__ = [
    'ClassesHook',
    'FiniteHook',
    'HeaderHook',
    'LiveLineHook',
    'NonFiniteError',
    'OneLrHook',
    'ReconstructionHook',
    'SaveBackboneHook',
    'ScheduleHook',
    'StrictLoadHook',
    'ThroughputHook',
    'TooManyUnreadableImagesError',
    'UnreadableImagesHook',
    'start_from_pretrained',
]
