"""A Runner whose console is quiet until the header is printed. Its log file gets everything."""

import logging
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

# Warnings of libraries about their own calls. A user cannot mend them.
_NOT_FOR_USERS = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'The prefix is not set in',
)


class ConsoleRunner(Runner):
    """mmengine's Runner. It writes the dump of config, environment and hooks to the log file only."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """The logger. Its console shows only warnings until :class:`HeaderHook` prints the header."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            handler.addFilter(lambda record: not str(record.msg).startswith(_NOT_FOR_USERS))
        for handler in consoles(logger):
            if handler.level == logging.INFO:
                handler.setLevel(logging.WARNING)
        return logger

    def dump_config(self) -> None:
        """Write the whole config into the work dir, but not over the file that it was read from."""
        source = Path(self.cfg.filename or '')
        if not source.is_file() or source.resolve().parent != Path(self.work_dir).resolve():
            super().dump_config()


def build_runner(cfg: Config) -> Runner:
    """The Runner of a config: a :class:`ConsoleRunner`, or what ``runner_type`` names."""
    return RUNNERS.build(cfg) if cfg.get('runner_type') else ConsoleRunner.from_cfg(cfg)


def consoles(logger: logging.Logger) -> list[logging.Handler]:
    """The handlers of a logger that write to the console."""
    return [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]
