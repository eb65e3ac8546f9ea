"""Runs a tool of ``tools/`` on a folder that a training wrote, or on a checkpoint."""

import runpy
import sys
from pathlib import Path

from a2mim_mm.engine.run_tool import run_tool
from a2mim_mm.engine.start import last_checkpoint
from a2mim_mm.errors import InputError


def checkpoint_of(path: str) -> str:
    """The last checkpoint in the folder of a training; a file stands for itself.

    Raises:
        ValueError: If the folder holds no checkpoint.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return path
    found = last_checkpoint(folder)
    if found is None:
        raise InputError(f'{folder} holds no checkpoint: name the folder of a training, or a checkpoint')
    return str(found)


def run(command: str, tool: str, argv: list[str]) -> None:
    """Run a tool as its command line does.

    Args:
        command: Word after ``a2mim``, for its messages.
        tool: Name of the file.
        argv: Arguments. The first may be the folder of a training, and its last checkpoint takes its place.
    """

    def start() -> None:
        sys.argv = [f'a2mim {command}', *map(checkpoint_of, argv[:1]), *argv[1:]]
        path = Path(__file__).resolve().parents[1] / '.mim' / 'tools' / f'{tool}.py'
        runpy.run_path(str(path), run_name='__main__')

    run_tool(start)
