"""Fills the virtual environment of a clone: what `make demo`, `make test` and `make lint` call first.

    python tools/dev/install.py demo|test|lint [--venv .venv]

`demo` installs what pre-training needs, with an mmcv that has no compiled ops (ready in seconds). `test`
installs the whole stack, with the ops. Each goes on where a stopped run was, and does nothing at all when
nothing has changed.
"""

import argparse
import hashlib
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from environment import ROOT, Environment, InstallError, minutes, say
from mmcv_wheels import MMCV, MmcvWheels

REQUIREMENTS = ROOT / 'requirements'
TARGETS = {
    'demo': ('build', 'runtime', 'mminstall', 'optional'),
    'test': ('build', 'runtime', 'mminstall', 'optional', 'convert', 'tests'),
    'lint': ('tests',),  # only the line of ruff
}
OPS_WORK = 'import torch, mmcv._ext'


def read_requirements(names: Iterable[str]) -> list[str]:
    """Lines of `requirements/<name>.txt`, without comments, in order, each once."""
    lines = []
    for name in names:
        for line in (REQUIREMENTS / f'{name}.txt').read_text().splitlines():
            requirement = line.split('#')[0].strip()
            if requirement and requirement not in lines:
                lines.append(requirement)
    return lines


def pinned(requirements: Iterable[str], package: str) -> str:
    """The version that `requirements` pin `package` to.

    Raises:
        InstallError: They do not.
    """
    for requirement in requirements:
        name, _, version = requirement.partition('==')
        if name.strip() == package and version:
            return version.strip()
    raise InstallError(f'requirements/ does not pin {package} with ==')


def fingerprint(target: str, python_version: str) -> str:
    """What decides whether an environment is up to date: requirements, packaging, scripts, Python, place."""
    files = [REQUIREMENTS / f'{name}.txt' for name in TARGETS[target]]
    files += [ROOT / 'setup.py', ROOT / 'pyproject.toml', *sorted(Path(__file__).parent.glob('*.py'))]
    digest = hashlib.sha256(f'{target}|{python_version}|{ROOT}'.encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def install_ops(env: Environment, wheels: MmcvWheels) -> None:
    """Sees to it that `import mmcv._ext` works, compiling where the wheel at hand does not fit this torch.

    Raises:
        InstallError: It does not work, whatever was tried.
    """
    if error := env.error_of('import torch, mmengine, cv2'):
        raise InstallError(f'what mmcv imports does not work: {error}')

    def attempt(wheel: Path) -> str:
        options = ['--no-cache-dir', '--no-deps', '--force-reinstall', str(wheel)]
        env.pip('installing mmcv with ops', 'install', *options)
        return env.error_of(OPS_WORK)

    if env.has('mmcv/_ext*.so') and not env.error_of(OPS_WORK):
        return
    if error := attempt(wheels.with_ops()):
        say(f'{error}: this wheel does not fit this torch')
        wheels.forget_ops()
        if error := attempt(wheels.compile()):
            raise InstallError(f'`import mmcv._ext` fails: {error}')
    say('`import mmcv._ext` works')


def fix_cv2(env: Environment) -> None:
    """Exchanges opencv-python for its twin without windows where there is no libGL (a bare container).

    Raises:
        InstallError: `import cv2` does not work, whatever was tried.
    """
    error = env.error_of('import cv2')
    if '.so' in error:
        say(f'{error}: taking opencv-python-headless, which needs no graphics libraries')
        version = env.output_of('import importlib.metadata as m; print(m.version("opencv-python"))')
        options = ['--no-deps', '--force-reinstall', f'opencv-python-headless=={version}']
        env.pip('installing opencv-python-headless', 'install', *options)
        error = env.error_of('import cv2')
    if error:
        raise InstallError(f'`import cv2` fails: {error}')


def install(target: str, env: Environment) -> None:
    """Brings the environment to where `target` needs it.

    Args:
        target: A key of `TARGETS`.
        env: The environment.

    Raises:
        InstallError: Something a person has to see to.
    """
    wanted = fingerprint(target, env.version)
    proof = {'demo': 'mmcv/__init__.py', 'test': 'mmcv/_ext*.so', 'lint': 'ruff*'}[target]
    if env.python.exists() and env.stamp(target) == wanted and env.has(proof):
        return
    start = time.monotonic()
    env.create()
    requirements = read_requirements(TARGETS[target])
    if target == 'lint':
        env.pip('installing ruff', 'install', f'ruff=={pinned(requirements, "ruff")}')
    else:
        install_stack(target, env, requirements)
    env.set_stamp(target, wanted)
    say(f'ready after {minutes(time.monotonic() - start)}')


def install_stack(target: str, env: Environment, requirements: list[str]) -> None:
    """Installs requirements, the kind of mmcv that the target needs, and this package."""
    wheels = MmcvWheels(env, pinned(requirements, MMCV), pinned(requirements, 'torch'))
    others = [line for line in requirements if not line.startswith(MMCV)]
    # An mmcv with ops does for the demonstration too.
    mmcv = [str(wheels.without_ops())] if target == 'demo' and not env.has('mmcv/__init__.py') else []
    env.pip('installing torch and all that is needed with it', 'install', *mmcv, *others)
    fix_cv2(env)
    if target == 'test':
        install_ops(env, wheels)
    env.pip('installing a2mim_mm', 'install', '--no-deps', '--no-build-isolation', '--editable', str(ROOT))


def stop(*_) -> None:
    """SIGTERM ends a run as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('target', choices=sorted(TARGETS))
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv', help='folder of the virtual environment')
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    try:
        install(arguments.target, Environment(arguments.venv.absolute()))
    except InstallError as error:
        print(f'[install] {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'\n[install] stopped; `make {arguments.target}` goes on from here', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
