"""Fills a virtual environment. `make install-TARGET` runs `python tools/dev/install.py TARGET FOLDER`.

`demo` installs what pre-training needs, with an mmcv that has no compiled ops. `test` installs the whole
stack, with the ops. `lint` installs ruff. After an interruption, each goes on where it was.
"""

import importlib.metadata
import signal
import sys
from pathlib import Path

from environment import Environment, InstallError, say
from mmcv_ops import ensure_ops, install_mmcv

REQUIREMENTS = {
    'demo': [f'-rrequirements/{name}.txt' for name in ('build', 'runtime', 'mminstall', 'optional')],
    'test': ['-rrequirements.txt'],
    'lint': ['-crequirements/tests.txt', 'ruff'],
}


def fix_cv2(env: Environment) -> None:
    """Exchanges opencv-python for its twin without windows where libGL is absent, as in a bare container.

    Raises:
        InstallError: `import cv2` does not work with either of them.
    """
    error = env.error_of('import cv2')
    if '.so' in error:
        say(f'{error}: opencv-python-headless, which needs no graphics libraries, takes its place')
        site = [str(path) for path in env.folder.glob('lib/python*/site-packages')]
        installed = next(iter(importlib.metadata.distributions(name='opencv-python', path=site)))
        env.pip('install', '--no-deps', '--force-reinstall', f'opencv-python-headless=={installed.version}')
        error = env.error_of('import cv2')
    if error:
        raise InstallError(f'`import cv2` fails in {env.folder}: {error}')


def install(target: str, env: Environment) -> None:
    """Brings the environment to where `target`, a key of `REQUIREMENTS`, needs it.

    Raises:
        InstallError: Something that a person has to mend.
    """
    env.create()
    if target != 'lint':
        install_mmcv(env, with_ops=target == 'test')
    # Compiling the bytecode of all of torch at once takes long; Python does it when a file is needed.
    env.pip('install', '--no-compile', *REQUIREMENTS[target])
    if target != 'lint':
        fix_cv2(env)
        if target == 'test':
            ensure_ops(env)
        env.pip('install', '--no-deps', '--no-build-isolation', '--editable', '.')
    say(f'{env.folder} is ready')


def stop(*_) -> None:
    """Ends the script as Ctrl-C does."""
    raise KeyboardInterrupt


def main(target: str, venv: str) -> int:
    """Returns the exit status."""
    signal.signal(signal.SIGINT, stop)  # the background job of a shell ignores it otherwise
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # not below nohup
        signal.signal(signal.SIGHUP, stop)
    try:
        install(target, Environment(Path(venv).absolute()))
    except InstallError as error:
        print(f'[install] {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\n[install] stopped; the same make goes on from here', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
