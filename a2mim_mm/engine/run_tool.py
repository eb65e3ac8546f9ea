"""Runs a command-line tool, and reports what the user can mend in one line."""

import os
import re
import signal
import sys
from collections.abc import Callable

from a2mim_mm.errors import UserError

from .config import NOT_INSTALLED
from .distributed import leave_distributed

_FILE_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
# How Python reports an unknown argument, and how mmengine reports an unknown class.
_MISSPELT = re.compile(r'unexpected keyword argument|registry|must contain the key "type"|type must be a str')


def run_tool(
    main: Callable[[], None], after_interrupt: str = 'use --resume to continue from the last checkpoint'
) -> None:
    """Run a tool. It ends with one message and exit status 1 if the user can mend an error.

    Other errors keep their traceback. Ctrl-C ends with status 130.

    Args:
        main: The tool.
        after_interrupt: What the user can do after Ctrl-C.
    """
    try:
        main()
        leave_distributed()
    except (KeyboardInterrupt, Exception) as error:
        if _interrupted(error):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # torchrun passes on a second one
            sys.exit(_say(f'interrupted; {after_interrupt}', 130))
        message = user_message(error)
        if message is None:
            raise
        sys.exit(_say(f'error: {message}', 1))


def user_message(error: Exception) -> str | None:
    """The message of an error that the user can mend; None if the error may be a bug.

    The user can mend a :class:`UserError`, a file that does not open, a misspelt class or argument in a
    config, and a missing library for detection or segmentation.
    """
    if isinstance(error, ModuleNotFoundError) and NOT_INSTALLED.search(str(error)):
        return (
            f'{error}. Detection and segmentation need the whole stack: make install-test, or the lines of '
            'requirements/tests.txt (never together with the packages called mmdet and mmsegmentation)'
        )
    misspelt = isinstance(error, (KeyError, TypeError)) and _MISSPELT.search(str(error))
    return _text(error) if misspelt or isinstance(error, (UserError, *_FILE_ERRORS)) else None


def _text(error: Exception) -> str:
    """The message. PyTorch raises errors of workers with their traceback as message, which is cut off."""
    text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    if not text.startswith('Caught '):
        return text
    return re.split(rf'\n[\w.]*{type(error).__name__}: ', text)[-1].strip()


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused an error. For example, torch.save raises another error when it is cut short."""
    return error is not None and (isinstance(error, KeyboardInterrupt) or _interrupted(error.__context__))


def _say(message: str, status: int) -> int:
    rank = os.environ.get('RANK', '0')
    print(('' if rank == '0' else f'[rank {rank}] ') + message, file=sys.stderr)
    return status
