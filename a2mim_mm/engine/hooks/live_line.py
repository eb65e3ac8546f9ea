"""Shows one line that moves with the training, in place of the lines of the log."""

import logging
import sys
from time import perf_counter

from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from a2mim_mm.registry import HOOKS

from ..console import consoles
from .throughput import SPEED

_IN_LINE = (
    'Epoch(train)',
    'Saving checkpoint',
    'Exp name',
)  # beginnings of log lines that the live line stands for
_REFRESH_S = 0.2


@HOOKS.register_module()
class LiveLineHook(Hook):
    """Shows epoch, loss, images a second and remaining time in one line of a terminal.

    The log file gets all lines. The console gets those that say something else, such as paths of pictures and
    warnings. Where the output is no terminal, the log stays as it is.

    Args:
        console: Where the line is shown; the default is the standard error.
    """

    priority = 'LOWEST'

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._progress: Progress | None = None
        self._shown = 0.0

    def before_train(self, runner: Runner) -> None:
        """Show the line, on the first rank."""
        if runner.rank or not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn('epoch {task.fields[epoch]}/{task.fields[epochs]}'),
            BarColumn(bar_width=None),
            TextColumn('loss {task.fields[loss]}  {task.fields[speed]} images/s'),
            TextColumn('ETA'),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._progress.start()
        self._task = self._progress.add_task(
            '',
            total=runner.max_iters,
            completed=runner.iter,
            epoch=runner.epoch + 1,
            epochs=runner.max_epochs,
            loss='-',
            speed='-',
        )
        for handler in consoles(runner.logger):
            handler.setStream(sys.stderr)  # which now prints above the line
            handler.addFilter(_not_in_line)

    def after_train_iter(self, runner: Runner, outputs: dict | None = None, **_) -> None:
        """Move the line, a few times a second: reading the loss waits for the GPU."""
        fresh = perf_counter() - self._shown < _REFRESH_S and runner.iter + 1 < runner.max_iters
        if self._progress is None or fresh:
            return
        self._shown = perf_counter()
        loss, speed = (outputs or {}).get('loss'), runner.message_hub.log_scalars.get(SPEED)
        self._progress.update(
            self._task,
            completed=runner.iter + 1,
            epoch=runner.epoch + 1,
            loss='-' if loss is None else f'{float(loss):.4f}',
            speed='-' if speed is None else f'{speed.current():,.0f}',
        )

    def after_train(self, runner: Runner) -> None:
        """Leave the line as it is at the end."""
        self.close(runner)

    def close(self, runner: Runner) -> None:
        """Give the terminal back, also after an error."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            for handler in consoles(runner.logger):
                handler.setStream(sys.stderr)
                handler.removeFilter(_not_in_line)


def _not_in_line(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_IN_LINE)
