"""The virtual environment of a clone, and pip inside it. Needs nothing but the standard library."""

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEEDED_GB = 9  # torch with CUDA takes 5.5 and pip's cache of it 3 (measured)
HEARTBEAT_S = 30


def pin(package: str) -> str:
    """The version to which the requirements pin a package."""
    text = ''.join(path.read_text() for path in (ROOT / 'requirements').glob('*.txt'))
    return re.search(rf'^{package}==([\w.]+)', text, re.MULTILINE)[1]


class InstallError(SystemExit):
    """Something that a person has to mend. It ends the script with a message that says how."""


def say(text: str) -> None:
    """Prints one line at once, so that a pipe shows it too."""
    print(f'[install] {text}', flush=True)


def run(command: list[str], progress: Callable[[], str] | None = None, **env: str) -> int:
    """Runs a command in the clone and returns its exit status.

    Args:
        command: The command line.
        progress: Says how far the command is; printed every half a minute.
        **env: Added to the environment.
    """
    # In a session for itself, so that one signal ends pip and all compilers below it.
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | env, start_new_session=True)
    try:
        while True:
            try:
                return process.wait(timeout=HEARTBEAT_S)
            except subprocess.TimeoutExpired:
                if progress:
                    say(progress())
    except BaseException:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        raise


class Environment:
    """A virtual environment of the Python that runs this script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / 'bin' / 'python'

    def create(self) -> None:
        """Makes the environment, unless a whole one for this Python and this place is there.

        Raises:
            InstallError: Something else is in its place, the disk is full, or this Python has no venv.
        """
        wanted = f'Python {platform.python_version()} in {self.folder}'
        made_for = self.folder / '.a2mim' / 'venv'  # written last
        if self.python.exists() and made_for.is_file() and made_for.read_text() == wanted:
            return
        if self.folder.is_dir() and any(self.folder.iterdir()) and not (self.folder / 'pyvenv.cfg').exists():
            raise InstallError(f'{self.folder} is not a virtual environment: move it away or set VENV=FOLDER')
        free_gb = shutil.disk_usage(self.folder.parent).free / 1e9
        if free_gb < NEEDED_GB:
            hint = 'free some or set VENV=FOLDER on another disk'
            raise InstallError(f'{self.folder} needs {NEEDED_GB} GB, only {free_gb:.1f} GB are free: {hint}')
        say(f'making an environment for {wanted}')
        if run([sys.executable, '-m', 'venv', '--clear', str(self.folder)]):
            raise InstallError(f'{sys.executable} cannot make it: on Debian, apt install python3-venv')
        made_for.parent.mkdir()
        made_for.write_text(wanted)

    def sweep(self) -> None:
        """Removes packages that an interrupted pip left half installed, which pip takes for whole ones."""
        for site in self.folder.glob('lib/python*/site-packages'):
            # pip writes RECORD last. A leading tilde marks what it was about to delete.
            halves = [info for info in site.glob('*.dist-info') if not (info / 'RECORD').is_file()]
            for path in [*halves, *site.glob('~*')]:
                say(f'removing what an interrupted pip left: {path.name}')
                shutil.rmtree(path, ignore_errors=True)

    def pip(self, verb: str, *options: str, progress: Callable[[], str] | None = None, **env: str) -> None:
        """Runs `pip VERB OPTIONS`; `run` explains the rest.

        Raises:
            InstallError: pip failed.
        """
        self.sweep()
        if run([str(self.python), '-m', 'pip', verb, *options], progress, **env):
            hint = 'if it reached no package index, mend the network or set PIP_INDEX_URL'
            raise InstallError(f'`pip {verb}` failed and printed why: {hint}, then run make again')

    def error_of(self, code: str) -> str:
        """Runs Python code in the environment; returns the last line of its error, or nothing if it works."""
        done = subprocess.run([str(self.python), '-I', '-c', code], capture_output=True, text=True)
        told = done.stderr.strip() or f'exit status {done.returncode}'
        return told.splitlines()[-1] if done.returncode else ''
