"""How fast training goes, and whether it waits for its data."""

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

    Both are over the last ``window`` iterations. ``images_per_s`` counts the
    images of all ranks, which advance in step. ``data_wait_percent`` is the
    share of the time in which this rank had no batch to work on: above a few
    percent, more workers or faster storage would speed training up.

    ``LoggerHook`` prints them as they are, with no entry in ``log_processor``.

    Args:
        window: Number of iterations to average over.

    Raises:
        ValueError: If ``window`` is below 1.
    """

    priority = 'NORMAL'  # after the losses were read, which waits for the GPU; before LoggerHook

    def __init__(self, window: int = 50) -> None:
        if window < 1:
            raise InputError(f'window must be at least 1, got {window}')
        self._steps: deque[tuple[int, float, float]] = deque(
            maxlen=window
        )  # images, seconds waited, seconds in all

    def before_train(self, runner: Runner) -> None:
        """Start anew, with histories of one value: mmengine's own grow, and slow down, without end."""
        self._steps.clear()
        for name in (SPEED, WAIT):
            runner.message_hub.log_scalars[name] = HistoryBuffer(max_length=1)
        self._mark = time.perf_counter()

    def before_train_epoch(self, _runner: Runner) -> None:
        """Leave out validation and checkpoints between epochs."""
        self._mark = time.perf_counter()

    def before_train_iter(self, _runner: Runner, **_) -> None:
        """The batch is here: waiting ends."""
        self._arrival = time.perf_counter()

    def after_train_iter(self, runner: Runner, data_batch: dict | None = None, **_) -> None:
        """Publish speed and waiting share."""
        now = time.perf_counter()
        self._steps.append((_batch_size(runner, data_batch), self._arrival - self._mark, now - self._mark))
        self._mark = now
        images, waited, total = (sum(column) for column in zip(*self._steps, strict=True))
        hub = runner.message_hub
        hub.update_scalar(SPEED, images * get_world_size() / total)
        hub.update_scalar(WAIT, 100 * waited / total)


def _batch_size(runner: Runner, data_batch: dict | None) -> int:
    """Images of a batch: the last one of an epoch may be smaller."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    return len(samples) if samples is not None else runner.train_dataloader.batch_size
