"""Runs a command-line tool, and says in one line what the user can mend."""

import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from .config import NOT_INSTALLED, PACKAGE
from .distributed import leave_distributed

# The last frame and the message in the text of an error that PyTorch passes on from a worker.
_IN_WORKER = re.compile(
    r'^Caught \w+ in .*'
    r'\n  File "(?P<file>[^"\n]+)", line (?P<number>\d+), in [^\n]*\n    (?P<line>[^\n]*)(?:\n[^\n]*[~^]+)?'
    r'\n(?P<type>[\w.]+): (?P<message>.*)',
    re.DOTALL,
)


def run_tool(
    main: Callable[[], None], after_interrupt: str = 'training goes on from the last checkpoint with --resume'
) -> None:
    """Run a tool. What the user can mend ends in one message and exit status 1, the rest in a traceback.

    Args:
        main: The tool.
        after_interrupt: What to do after Ctrl-C.
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
    """The message of an error that the user's input caused; None if it may be a bug.

    These are the user's: what a check of this package, its tools or mmengine's
    registry raises by itself (its last frame is a ``raise``); arguments that a
    class does not have; files that cannot be opened; detection or segmentation
    where they are not installed.
    """
    frame, error = _origin(error)
    path = Path(frame.filename).resolve()
    ours = path.is_relative_to(PACKAGE) or 'tools' in path.parts[-3:-1]  # which may lie elsewhere
    checked = ours or path.parts[-3:-1] == ('mmengine', 'registry')
    raised = (frame.line or '').lstrip().startswith('raise ')
    misspelt = isinstance(error, TypeError) and 'unexpected keyword argument' in str(error)
    unopened = isinstance(
        error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
    )
    if isinstance(error, ModuleNotFoundError) and NOT_INSTALLED.search(str(error)):
        return (
            f'{error}. Detection and segmentation need the whole stack: make install-test, or the lines of '
            'requirements/tests.txt (never beside the packages called mmdet and mmsegmentation)'
        )
    if (checked and raised) or misspelt or unopened:
        return str(error.args[0]) if isinstance(error, KeyError) else str(error)
    return None


def _origin(error: Exception) -> tuple[traceback.FrameSummary, Exception]:
    """Where an error was raised, and the error as it was there.

    PyTorch raises an error of a worker a second time, with the traceback of the first as its message.
    """
    frame = traceback.extract_tb(error.__traceback__)[-1]
    told = _IN_WORKER.search(str(error.args[0])) if error.args else None
    if told is None:
        return frame, error
    there = traceback.FrameSummary(told['file'], int(told['number']), '', line=told['line'])
    try:
        return there, type(error)(told['message'].strip())
    except TypeError:  # an error that takes more than a message
        return there, RuntimeError(told['message'].strip())


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: torch.save, cut short, raises one of its own."""
    return error is not None and (isinstance(error, KeyboardInterrupt) or _interrupted(error.__context__))


def _say(message: str, status: int) -> int:
    rank = os.environ.get('RANK', '0')
    print(('' if rank == '0' else f'[rank {rank}] ') + message, file=sys.stderr)
    return status
