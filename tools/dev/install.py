"""Fills a virtual environment. `make install-TARGET` runs `python tools/dev/install.py TARGET FOLDER`.

`demo` installs what pre-training needs, with an mmcv that has no compiled ops. `test` installs the whole
stack, with the ops. `lint` installs ruff. After an interruption, each goes on where it was.
"""

import importlib.metadata
import signal
import sys
from pathlib import Path

from environment import Environment, InstallError, pin, say
from mmcv_ops import ensure_ops, install_mmcv

REQUIREMENTS = {
    'demo': [f'-rrequirements/{name}.txt' for name in ('build', 'runtime', 'mminstall', 'optional')],
    'test': ['-rrequirements.txt'],
    'lint': [f'ruff=={pin("ruff")}'],
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
        hint = 'install what it misses or remove that folder, then run make again'
        raise InstallError(f'`import cv2` fails in {env.folder} ({error}): {hint}')


def install(target: str, env: Environment) -> None:
    """Brings the environment to where `target`, a key of `REQUIREMENTS`, needs it.

    Raises:
        InstallError: Something that a person has to mend.
    """
    env.create()
    if target != 'lint':
        install_mmcv(env, with_ops=target == 'test')
    # To compile the bytecode of all of torch at once takes long. Python compiles a file when it is needed.
    env.pip('install', '--no-compile', *REQUIREMENTS[target])
    if target != 'lint':
        fix_cv2(env)
        if target == 'test':
            ensure_ops(env)
        env.pip('install', '--no-deps', '--no-build-isolation', '--editable', '.')
    say(f'{env.folder} is ready')


def main(target: str, folder: str) -> None:
    """Installs; ends as on Ctrl-C on every signal that stops a script, in the background of a shell, too."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores it
            signal.signal(number, signal.default_int_handler)
    try:
        install(target, Environment(Path(folder).absolute()))
    except KeyboardInterrupt:
        sys.exit('\n[install] stopped; the same make goes on from here')


if __name__ == '__main__':
    main(*sys.argv[1:])
