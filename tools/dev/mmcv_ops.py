"""mmcv without compiled ops (built in seconds) and with them (compiled for minutes, once a clone).

Both kinds of wheel have one name and one version, so pip's cache may hold either. mmcv is therefore never
taken from that cache, and what counts is whether `import mmcv._ext` works.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from environment import ROOT, Environment, InstallError, pin, say

MMCV = 'onedl-mmcv'
ALONE = ('--no-cache-dir', '--no-deps')
OPS_WORK = 'import torch, mmcv._ext'
GB_PER_COMPILER = 2  # the most that one file with torch's headers takes
# mmcv's setup.py compiles for CUDA wherever torch sees a GPU, and fails where nvcc does not fit torch.
CUDA_FITS = """
import subprocess, sys, torch
from torch.utils.cpp_extension import CUDA_HOME
torch.cuda.is_available() or sys.exit('torch sees no GPU')
told = subprocess.getoutput(f'{CUDA_HOME}/bin/nvcc --version')
major = torch.version.cuda.split('.')[0]
f'release {major}.' in told or sys.exit(f'torch sees a GPU, but there is no nvcc of CUDA {major}')
"""


def folder() -> Path:
    """Where this clone keeps what it compiles for this torch and this Python."""
    return ROOT / '.wheels' / f'torch{pin("torch")}-cp{sys.version_info[0]}{sys.version_info[1]}'


def install_mmcv(env: Environment, with_ops: bool) -> None:
    """Installs mmcv first, so that no later requirement takes it from pip's cache.

    Without ops, pip builds it apart from torch. With ops, pip takes the wheel that this clone keeps, or one
    that it finds (PIP_FIND_LINKS). If there is neither, `ensure_ops` compiles.
    """
    wanted = f'{MMCV}=={pin(MMCV)}'
    if not with_ops:
        options = ['--no-binary', MMCV, wanted]
    else:
        has_ops = any(env.folder.glob('lib/python*/site-packages/mmcv/_ext*.so'))
        kept = next(folder().glob(f'ops/onedl_mmcv-{pin(MMCV)}-*.whl'), wanted)
        options = [str(kept)] if has_ops else ['--force-reinstall', str(kept)]
    env.pip('install', *ALONE, *options)


def ensure_ops(env: Environment) -> None:
    """Sees to it that `import mmcv._ext` works; compiles the ops if it does not.

    Raises:
        InstallError: It does not work, or nothing can be compiled here.
    """
    if error := env.error_of('import torch, mmcv'):
        hint = 'remove that folder, then run make again'
        raise InstallError(f'`import torch, mmcv` fails in {env.folder} ({error}): {hint}')
    if error := env.error_of(OPS_WORK):
        say(f'there are no mmcv ops that fit this torch ({error})')
        env.pip('install', *ALONE, '--force-reinstall', str(compile_ops(env)))
        if error := env.error_of(OPS_WORK):
            raise InstallError(f'`import mmcv._ext` fails though the ops were compiled here: {error}')
    say('`import mmcv._ext` works')


def compile_ops(env: Environment) -> Path:
    """Compiles the ops and keeps the wheel. After an interruption, the next call uses its object files."""
    compiler = os.environ.get('CXX', 'c++')
    if not shutil.which(compiler):
        raise InstallError(
            f'no compiler {compiler} for the mmcv ops: install one (Debian: apt install g++ python3-dev) '
            'or set PIP_FIND_LINKS to a folder with a compiled wheel of onedl-mmcv'
        )
    source = unpacked_source(env)
    say('compiling the mmcv ops, once in this clone: 10 to 20 minutes on 2 cores')
    say('after Ctrl-C, the same make goes on with the files that are left')

    def progress() -> str:
        ninja = ''.join(path.read_text() for path in source.glob('build/*/build.ninja'))
        total = len(re.findall(': (?:cuda_)?compile ', ninja))
        return f'{sum(1 for _ in source.glob("build/**/*.o"))} of {total} files compiled'

    options = [*ALONE, '--no-build-isolation', '-q', '--wheel-dir', str(source / 'made')]
    env.pip('wheel', *options, str(source), progress=progress, **compiler_env(env))
    made = next((source / 'made').glob('*.whl'))
    kept = folder() / 'ops' / made.name
    kept.parent.mkdir(exist_ok=True)
    made.replace(kept)  # in one step: no run finds half a wheel
    shutil.rmtree(source.parent)
    return kept


def unpacked_source(env: Environment) -> Path:
    """Mmcv's source in a lasting folder, so that object files survive an interruption."""
    place = folder() / 'source'
    name = f'onedl_mmcv-{pin(MMCV)}'
    if not (place / name).is_dir():
        options = [*ALONE, '--no-build-isolation', '--no-binary', MMCV, '--dest', str(place)]
        env.pip('download', *options, f'{MMCV}=={pin(MMCV)}')
        shutil.unpack_archive(place / f'{name}.tar.gz', place / 'unpacked')
        (place / 'unpacked' / name).replace(place / name)
    return place / name


def compiler_env(env: Environment) -> dict[str, str]:
    """Environment variables for the compilation; `CFLAGS`, `MAX_JOBS` and `FORCE_CUDA` stay as they are set.

    Kernels for CUDA are compiled where a GPU and an nvcc of torch's CUDA are, or with `FORCE_CUDA=1`.
    """
    memory_gb = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9
    jobs = max(1, min(os.cpu_count() or 1, int(memory_gb / GB_PER_COMPILER)))
    defaults = {'CFLAGS': '-g0', 'MAX_JOBS': str(jobs)}  # debug information doubles the time
    chosen = {key: os.environ.get(key, value) for key, value in defaults.items()}
    chosen['PATH'] = f'{env.python.parent}{os.pathsep}{os.environ["PATH"]}'  # ninja is there
    if os.environ.get('FORCE_CUDA') != '1' and (reason := env.error_of(CUDA_FITS)):
        say(f'compiling for the CPU only: {reason}')
        chosen['CUDA_VISIBLE_DEVICES'] = ''
    return chosen
