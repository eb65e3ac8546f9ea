"""Measures how fast training runs, and how long it waits for data."""

import time
from collections import deque

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner

from a2mim_mm.errors import InputError
from a2mim_mm.registry import HOOKS

SPEED = 'train/images_per_s'
WAIT = 'train/data_wait_percent'


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Adds ``images_per_s`` and ``data_wait_percent`` to the log line.

    Both are averages over the last ``window`` iterations. ``images_per_s`` counts the images of all ranks,
    which advance together. ``data_wait_percent`` is the share of time in which this rank waited for a batch.
    If it is above a few percent, more workers or faster storage make training faster.

    ``LoggerHook`` prints both without an entry in ``log_processor``.

    Args:
        window: Number of iterations to average over.

    Raises:
        ValueError: If ``window`` is below 1.
    """

    priority = 'NORMAL'  # after the losses were read, which waits for the GPU, and before LoggerHook

    def __init__(self, window: int = 50) -> None:
        if window < 1:
            raise InputError(f'window must be at least 1, got {window}')
        # Images, seconds waited and seconds in all of the last steps.
        self._steps: deque[tuple[int, float, float]] = deque(maxlen=window)

    def before_train(self, runner: Runner) -> None:
        """Start with histories of one value. Those of mmengine grow without limit and become slow."""
        self._steps.clear()
        for name in (SPEED, WAIT):
            runner.message_hub.log_scalars[name] = HistoryBuffer(max_length=1)
        self._mark = time.perf_counter()

    def before_train_epoch(self, _runner: Runner) -> None:
        """Start the clock again, so that validation and checkpoints do not count."""
        self._mark = time.perf_counter()

    def before_train_iter(self, _runner: Runner, **_) -> None:
        """Note when the batch arrived."""
        self._arrival = time.perf_counter()

    def after_train_iter(self, runner: Runner, data_batch: dict | None = None, **_) -> None:
        """Publish the speed and the share of waiting."""
        now = time.perf_counter()
        self._steps.append((_batch_size(runner, data_batch), self._arrival - self._mark, now - self._mark))
        self._mark = now
        images, waited, total = (sum(column) for column in zip(*self._steps, strict=True))
        hub = runner.message_hub
        hub.update_scalar(SPEED, images * get_world_size() / total)
        hub.update_scalar(WAIT, 100 * waited / total)


def _batch_size(runner: Runner, data_batch: dict | None) -> int:
    """The number of images in a batch. The last batch of an epoch may be smaller."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    return len(samples) if samples is not None else runner.train_dataloader.batch_size
