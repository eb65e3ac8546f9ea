"""The virtual environment of a clone, and running commands that take minutes while saying how far they are.

Runs on the bare interpreter: standard library only.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEEDED_GB = 9  # torch with CUDA 5.5, pip's cache of it 3 (measured), rounded up
HEARTBEAT_S = 30
LEAKS = (
    'PYTHONPATH',
    'PYTHONHOME',
    'PIP_TARGET',
    'PIP_PREFIX',
    'PIP_ROOT',
    'PIP_NO_BINARY',
    'PIP_ONLY_BINARY',
)
QUIET = {'PIP_USER': '0', 'PIP_DISABLE_PIP_VERSION_CHECK': '1', 'PIP_NO_INPUT': '1', 'PYTHONNOUSERSITE': '1'}


class InstallError(Exception):
    """Something a person has to see to; the message says what."""


def say(text: str) -> None:
    """Prints one line at once, so that a pipe shows it too."""
    print(f'[install] {text}', flush=True)


def clean_env(**extra: str) -> dict[str, str]:
    """The environment for pip and compilers: nothing outside may leak in or redirect where things go.

    Temporary files stay in the clone too: `/tmp` is a small RAM disk on many machines, torch is not small.
    """
    scratch = ROOT / '.cache' / 'tmp'
    scratch.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in os.environ.items() if key not in LEAKS}
    return kept | QUIET | {'TMPDIR': str(scratch)} | extra


def minutes(seconds: float) -> str:
    """`125 -> '2:05'`."""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def last_line(log: Path) -> str:
    """The last line of a log that says something, shortened to fit a terminal."""
    lines = (line.strip() for line in reversed(log.read_text(errors='replace').splitlines()))
    return next((line[:90] for line in lines if line and not line.startswith('WARNING')), '')


def wait(process: subprocess.Popen, beat: Callable[[], None]) -> int:
    """Waits for a process that leads a group of its own, calling `beat` every half a minute.

    Where this one is interrupted, so is the group, and its end is awaited: nothing goes on in the background.

    Returns:
        The exit status.
    """
    try:
        while True:
            try:
                return process.wait(timeout=HEARTBEAT_S)
            except subprocess.TimeoutExpired:
                beat()
    except BaseException:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        raise


def run(
    what: str, command: list[str], log: Path, progress: Callable[[], str] | None = None, **env: str
) -> None:
    """Runs a command with its output in a log, telling every half a minute how far it is.

    Args:
        what: What is being done, for the person waiting.
        command: The command line.
        log: Appended to.
        progress: Says how far it is; by default the last line of the log.
        **env: Added to the environment.

    Raises:
        InstallError: The command failed; the end of its output has been printed.
    """
    progress = progress or (lambda: last_line(log))
    say(f'{what} ...')
    start = time.monotonic()
    with log.open('a') as out:
        out.write(f'\n$ {" ".join(command)}\n')
        out.flush()
        begin = out.tell()
        # A group of its own: Ctrl-C reaches the compilers below pip and ninja once, from here.
        io = {'stdin': subprocess.DEVNULL, 'stdout': out, 'stderr': out}
        process = subprocess.Popen(command, cwd=ROOT, env=clean_env(**env), start_new_session=True, **io)
        code = wait(process, lambda: say(f'{what}: {minutes(time.monotonic() - start)}  {progress()}'))
    if code:
        with log.open(errors='replace') as text:
            text.seek(begin)
            print(''.join(text.readlines()[-40:]), flush=True)
        raise InstallError(f'{what} failed (exit status {code}); all of its output: {log}')
    say(f'{what}: done in {minutes(time.monotonic() - start)}')


class Environment:
    """The virtual environment and what is known to be in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / 'bin' / 'python'
        self.log = folder / 'install.log'
        self.version = '.'.join(map(str, sys.version_info[:3]))
        self._stamps = folder / '.a2mim'

    def stamp(self, name: str) -> str:
        """What was written by `set_stamp`, or nothing."""
        path = self._stamps / name
        return path.read_text() if path.is_file() else ''

    def set_stamp(self, name: str, text: str) -> None:
        """Remembers that a step was finished, all of it: the file appears in one go."""
        self._stamps.mkdir(exist_ok=True)
        partial = self._stamps / f'{name}.partial'
        partial.write_text(text)
        partial.replace(self._stamps / name)

    def create(self) -> None:
        """Makes the environment, unless a whole one of this Python in this place is there.

        Raises:
            InstallError: Something else is in its place, the disk is full, or this Python cannot make one.
        """
        wanted = f'Python {self.version} in {self.folder}'
        if self.stamp('venv') == wanted and self.python.exists():
            return
        found = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        if 'pyvenv.cfg' not in found and found - {'bin', 'lib', 'lib64', 'include'}:
            raise InstallError(f'{self.folder} is not a virtual environment; move it away or set VENV=FOLDER')
        if old := self.stamp('venv'):
            say(f'the environment was made for {old}; making it anew')
        check_space(self.folder.parent)
        say(f'making an environment of {wanted}')
        done = self._call([sys.executable, '-m', 'venv', '--clear', str(self.folder)], ROOT)
        if done.returncode:
            hint = 'on Debian or Ubuntu: apt install python3-venv'
            raise InstallError(f'{sys.executable} has no venv ({hint}):\n{done.stdout}{done.stderr}')
        self.set_stamp('venv', wanted)

    def sweep(self) -> None:
        """Removes what a stopped pip left of packages half installed, which pip would take for whole ones."""
        for site in self.folder.glob('lib/python*/site-packages'):
            # RECORD is the last file pip writes; a leading tilde marks what it was about to delete.
            partial = [info for info in site.glob('*.dist-info') if not (info / 'RECORD').is_file()]
            for path in [*partial, *site.glob('~*')]:
                say(f'removing what an interrupted installation left: {path.name}')
                shutil.rmtree(path, ignore_errors=True)

    def pip(
        self, what: str, verb: str, *options: str, progress: Callable[[], str] | None = None, **env: str
    ) -> None:
        """Runs `pip VERB OPTIONS`; see `run` for the rest."""
        self.sweep()
        # Python writes bytecode as it is needed: compiling all of torch's at once takes long.
        flags = ['--progress-bar', 'off', *(['--no-compile'] if verb == 'install' else [])]
        run(what, [str(self.python), '-m', 'pip', verb, *flags, *options], self.log, progress, **env)

    def error_of(self, code: str) -> str:
        """Runs a line of Python in the environment.

        Returns:
            The last line of the error, or nothing where it works.
        """
        done = self._call([str(self.python), '-c', code])
        if done.returncode == 0:
            return ''
        return (done.stderr.strip().splitlines() or [f'exit status {done.returncode}'])[-1]

    def output_of(self, code: str) -> str:
        """What a piece of Python prints in the environment."""
        return self._call([str(self.python), '-c', code]).stdout.strip()

    def has(self, pattern: str) -> bool:
        """Whether site-packages holds a file of that pattern."""
        return any(self.folder.glob(f'lib/python*/site-packages/{pattern}'))

    def _call(self, command: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            command, cwd=cwd or self.folder, env=clean_env(), capture_output=True, text=True
        )


def check_space(folder: Path) -> None:
    """Refuses to begin what cannot end.

    Raises:
        InstallError: Too little space is left.
    """
    free = shutil.disk_usage(folder).free / 1e9
    if free < NEEDED_GB:
        raise InstallError(f'torch and the rest need {NEEDED_GB} GB of disk, {folder} has {free:.1f} GB left')
