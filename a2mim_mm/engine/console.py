"""A Runner whose console is quiet until the header is printed. The log file has everything."""

import logging

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

# Of the libraries, about calls in the libraries: nobody who trains can mend them.
_NOT_FOR_USERS = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'The prefix is not set in',
)


class ConsoleRunner(Runner):
    """mmengine's Runner, but the dump of config, environment and hooks goes to the log file only."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """The logger; its console waits for :class:`HeaderHook`, but for warnings."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            handler.addFilter(lambda record: not str(record.msg).startswith(_NOT_FOR_USERS))
        for handler in consoles(logger):
            if handler.level == logging.INFO:
                handler.setLevel(logging.WARNING)
        return logger


def build_runner(cfg: Config) -> Runner:
    """The Runner of a config: a :class:`ConsoleRunner`, unless ``runner_type`` names another."""
    return RUNNERS.build(cfg) if cfg.get('runner_type') else ConsoleRunner.from_cfg(cfg)


def consoles(logger: logging.Logger) -> list[logging.Handler]:
    """What writes the lines of a logger to the console."""
    return [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]
