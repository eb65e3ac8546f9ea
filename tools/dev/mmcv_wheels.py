"""Two kinds of mmcv, one wheel of each kept in the clone.

Op-less and compiled wheels have one name and one version, so that a wheel in pip's cache would say nothing
about its ops: mmcv is only ever built with `--no-cache-dir`, into `.wheels/torch<version>-<python tag>/`, one
folder a kind.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from environment import ROOT, Environment, InstallError, clean_env, say

MMCV = 'onedl-mmcv'
# Python 3.10.12, 3.11.4 and later refuse members that leave the folder.
SAFE_EXTRACTION = {'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}
GB_PER_COMPILER = 2  # what one file that includes torch's headers takes, at most
CUDA_PROBE = """
import subprocess, torch
from torch.utils.cpp_extension import CUDA_HOME
if not torch.cuda.is_available():
    print('no-gpu')
else:
    command = [f'{CUDA_HOME}/bin/nvcc', '--version']
    told = subprocess.run(command, capture_output=True, text=True).stdout if CUDA_HOME else ''
    print('cuda' if f'release {torch.version.cuda.split(".")[0]}.' in told else 'no-nvcc')
"""


def has_ops(wheel: Path) -> bool:
    """Whether an mmcv wheel holds the compiled ops."""
    with zipfile.ZipFile(wheel) as archive:
        return any(name.startswith('mmcv/_ext.') and name.endswith('.so') for name in archive.namelist())


def only_wheel(folder: Path) -> Path | None:
    """The wheel in `folder`, if there is one."""
    return next(iter(sorted(folder.glob('*.whl'))), None)


def compiler_env(env: Environment) -> dict[str, str]:
    """Environment variables for the compilation; `CFLAGS`, `MAX_JOBS` and `FORCE_CUDA` are kept where set.

    onedl-mmcv compiles CUDA kernels wherever torch sees a GPU, and fails without an nvcc of torch's CUDA. So:
    with a GPU and a fitting nvcc, or with `FORCE_CUDA=1`, they are compiled; else only the CPU's, and the log
    says so.
    """
    memory_gb = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9
    jobs = max(1, min(os.cpu_count() or 1, int(memory_gb / GB_PER_COMPILER)))
    defaults = {'CFLAGS': '-g0', 'MAX_JOBS': str(jobs)}  # debug information doubles the time
    chosen = {key: os.environ.get(key, value) for key, value in defaults.items()}
    chosen['PATH'] = f'{env.python.parent}{os.pathsep}{os.environ["PATH"]}'  # ninja lives there
    if os.environ.get('FORCE_CUDA') == '1':
        return chosen
    found = env.output_of(CUDA_PROBE)
    if found == 'cuda':
        say('torch sees a GPU and nvcc fits: compiling the ops for both CPU and GPU, which takes much longer')
        return chosen
    if found == 'no-nvcc':
        say('torch sees a GPU, but there is no nvcc of its CUDA version: compiling the ops for the CPU only')
    return chosen | {'CUDA_VISIBLE_DEVICES': ''}


class MmcvWheels:
    """Finds, builds and keeps the wheels.

    Args:
        env: Where they will be installed; torch has to be there before `with_ops` is called.
        version: mmcv's.
        torch_version: torch's, which the ops are compiled against.
        root: Under which they are kept.
    """

    def __init__(
        self, env: Environment, version: str, torch_version: str, root: Path = ROOT / '.wheels'
    ) -> None:
        self.env = env
        self.requirement = f'{MMCV}=={version}'
        self.folder = root / f'torch{torch_version}-cp{sys.version_info[0]}{sys.version_info[1]}'
        self.folder.mkdir(parents=True, exist_ok=True)

    def without_ops(self) -> Path:
        """The wheel without ops: kept, or built in isolation, where torch is absent (13 seconds)."""
        if wheel := only_wheel(self.folder / 'no-ops'):
            return wheel
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            options = ['--no-cache-dir', '--no-deps', '--no-binary', MMCV, '--wheel-dir', scratch]
            self.env.pip('building mmcv without ops', 'wheel', *options, self.requirement)
            wheel = only_wheel(Path(scratch))
            if wheel is None or has_ops(wheel):
                raise InstallError(f'pip built no mmcv without ops; see {self.env.log}')
            return self._keep(wheel, 'no-ops')

    def with_ops(self) -> Path:
        """The wheel with ops: kept, found where pip is told to look, or compiled."""
        return only_wheel(self.folder / 'ops') or self.find() or self.compile()

    def forget_ops(self) -> None:
        """Drops the kept wheel with ops."""
        shutil.rmtree(self.folder / 'ops', ignore_errors=True)

    def find(self) -> Path | None:
        """A fitting compiled wheel from where pip is told to look (PIP_FIND_LINKS): pip reads the tags."""
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            options = ['--no-cache-dir', '--no-deps', '--only-binary', MMCV, '--dest', scratch]
            command = [str(self.env.python), '-m', 'pip', 'download', *options, self.requirement]
            subprocess.run(command, env=clean_env(), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True)
            wheel = only_wheel(Path(scratch))
            if wheel is None or not has_ops(wheel):
                return None
            say(f'found a wheel with compiled ops: {wheel.name}')
            return self._keep(wheel, 'ops')

    def compile(self) -> Path:
        """Compiles the ops. After Ctrl-C, the next call goes on with the object files of this one."""
        source = self._source()
        csrc = source / 'mmcv' / 'ops' / 'csrc' / 'pytorch'
        total = sum(1 for folder in (csrc, csrc / 'cpu') for _ in folder.glob('*.cpp'))
        say(f'the mmcv ops have to be compiled, {total} files: 10 to 20 minutes on 2 cores')
        say(f'this happens once: the wheel is kept in {self.folder / "ops"}')

        def progress() -> str:
            return f'{sum(1 for _ in source.glob("build/**/*.o"))} of {total} files compiled'

        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            options = [
                '--no-build-isolation',
                '--no-cache-dir',
                '--no-deps',
                '--wheel-dir',
                scratch,
                str(source),
            ]
            self.env.pip('compiling mmcv', 'wheel', *options, progress=progress, **compiler_env(self.env))
            wheel = only_wheel(Path(scratch))
            if wheel is None or not has_ops(wheel):
                raise InstallError(f'mmcv was built without its ops; see {self.env.log}')
            wheel = self._keep(wheel, 'ops')
        shutil.rmtree(source.parent)
        return wheel

    def _source(self) -> Path:
        """mmcv's unpacked source in a lasting folder, so that object files survive an interruption."""
        place = self.folder / 'source'
        if not place.is_dir():
            with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                options = ['--no-build-isolation', '--no-cache-dir', '--no-deps', '--no-binary', MMCV]
                self.env.pip('fetching mmcv', 'download', *options, '--dest', scratch, self.requirement)
                unpacked = Path(scratch) / 'unpacked'
                with tarfile.open(next(Path(scratch).glob('*.tar.gz'))) as archive:
                    archive.extractall(unpacked, **SAFE_EXTRACTION)
                unpacked.replace(place)
        return next(path for path in place.iterdir() if path.is_dir())

    def _keep(self, made: Path, kind: str) -> Path:
        """Moves a finished wheel to its place in one step: there never is half a wheel."""
        place = self.folder / kind
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return made.replace(place / made.name)
