"""The source tree as a whole: lint, format, who imports whom, no traces of the machine it was written on."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'a2mim_mm'
# Each room, and what it may import besides itself: downwards only.
ROOMS = {
    'version.py': set(),
    'quiet.py': set(),
    'registry.py': set(),
    'errors.py': set(),
    'files.py': set(),
    'drawing.py': {'errors', 'files'},
    'libraries.py': {'errors'},
    'backbones': {'registry', 'errors', 'libraries'},
    'checkpoints': {'registry', 'errors', 'files'},
    'transfer': {'registry', 'errors', 'backbones'},
    'models': {'registry', 'errors', 'backbones'},
    'data': {'registry', 'errors', 'files', 'libraries', 'quiet'},
    'convert': {'registry', 'errors', 'files', 'libraries', 'backbones', 'checkpoints'},
    'engine': {
        'registry',
        'errors',
        'files',
        'drawing',
        'quiet',
        'backbones',
        'checkpoints',
        'convert',
        'data',
        'models',
    },
    'pretraining': {'errors', 'files', 'libraries', 'backbones', 'checkpoints', 'convert', 'data', 'engine'},
    'commands': {
        *('errors', 'files', 'libraries', 'checkpoints', 'data', 'engine', 'apis', 'analysis', 'pretraining')
    },
    '__main__.py': {'commands'},
    'apis.py': {'registry', 'errors', 'checkpoints', 'data', 'models'},
    'analysis': {
        *(
            'registry',
            'errors',
            'files',
            'libraries',
            'version',
            'apis',
            'backbones',
            'checkpoints',
            'convert',
            'data',
            'engine',
            'models',
            'drawing',
        ),
    },
}


def modules(path):
    """The Python files of a package or module, links not followed."""
    return [path] if path.is_file() else sorted(path.rglob('*.py'))


def imports(path):
    """Absolute names of what a module imports anywhere in it, functions included, relative names resolved."""
    package = path.relative_to(ROOT).with_suffix('').parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += [node.module] if node.module else []
            yield from ('.'.join([*base, alias.name]) for alias in node.names)


def tracked():
    """Files that git tracks or would track."""
    command = ['git', 'ls-files', '--cached', '--others', '--exclude-standard']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip('not a git checkout')
    paths = (ROOT / line for line in done.stdout.splitlines())
    return [path for path in paths if path.is_file() and not path.is_symlink()]


@pytest.mark.parametrize('command', [['check'], ['format', '--check']], ids=['lint', 'format'])
def test_ruff(command):
    ruff = [sys.executable, '-m', 'ruff', *command, '--no-cache', '--output-format=concise', '.']
    ruff = [word for word in ruff if command == ['check'] or not word.startswith('--output')]
    done = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_relative_imports_are_resolved():
    names = set(imports(PACKAGE / '__init__.py'))
    assert {'a2mim_mm.registry', 'a2mim_mm.version.__version__'} <= names


@pytest.mark.parametrize('path', modules(PACKAGE), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_of_detection_segmentation_or_ops(path):
    for name in imports(path):
        assert not re.match(r'(mmdet|mmseg|mmcv\.ops|mmcv\._ext)(\.|$)', name), f'{path} imports {name}'


@pytest.mark.parametrize('room', ROOMS)
def test_rooms_depend_in_one_direction(room):
    for path in modules(PACKAGE / room):
        used = {name.split('.')[1] for name in imports(path) if name.startswith('a2mim_mm.')}
        assert used <= ROOMS[room] | {room.removesuffix('.py')}, path


def test_every_room_has_its_place():
    rooms = {
        path.name for path in PACKAGE.iterdir() if path.suffix == '.py' or (path / '__init__.py').exists()
    }
    assert rooms == {*ROOMS, '__init__.py'}


def test_the_direction_has_no_circle():
    below = {room.removesuffix('.py'): others for room, others in ROOMS.items()}
    while below:
        lowest = {room for room, others in below.items() if not others & below.keys()}
        assert lowest, f'a circle among {sorted(below)}'
        below = {room: others for room, others in below.items() if room not in lowest}


def test_pretraining_imports_work_without_detection_segmentation_and_ops():
    program = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmdet', 'mmseg') or name == 'mmcv._ext':
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Absent())
import a2mim_mm
assert 'mmpretrain' not in sys.modules, 'importing a2mim_mm has to be cheap'
for name in ('models', 'backbones', 'data', 'checkpoints', 'engine'):
    importlib.import_module(f'a2mim_mm.{name}')
"""
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_trace_of_a_machine_and_nothing_unfinished():
    traces = re.compile(r'/(work|root|home|Users|mnt)/\w|\b(TO' r'DO|FIX' r'ME|X' r'XX)\b')
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # a picture
        found = traces.search(text)
        assert not found, f'{path.relative_to(ROOT)}: {found[0]}'


def test_shell_scripts_can_be_run():
    scripts = [path for path in tracked() if path.suffix == '.sh' or path == ROOT / '.ci' / 'run']
    assert ROOT / '.ci' / 'run' in scripts
    for path in scripts:
        assert path.stat().st_mode & 0o111, f'{path} is not executable'
        assert subprocess.run(['bash', '-n', str(path)]).returncode == 0
