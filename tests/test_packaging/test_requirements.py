"""The requirement files agree with each other and cover what the project imports."""

import ast
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
NAMES = [path.stem for path in (ROOT / 'requirements').glob('*.txt')]
# Import name of what is called otherwise on the index.
CALLED = {
    'cv2': 'opencv-python',
    'PIL': 'pillow',
    'mmengine': 'onedl-mmengine',
    'mmcv': 'onedl-mmcv',
    'mmpretrain': 'onedl-mmpretrain',
    'mmdet': 'onedl-mmdetection',
    'mmseg': 'onedl-mmsegmentation',
    'skimage': 'scikit-image',
    'sklearn': 'scikit-learn',
}


def requirements(name):
    """{package: specifiers} of `requirements/<name>.txt`."""
    lines = (line.split('#')[0].strip() for line in (ROOT / 'requirements' / f'{name}.txt').open())
    parsed = (Requirement(line) for line in lines if line)
    return {requirement.name: requirement.specifier for requirement in parsed}


def test_all_files_are_installed_for_the_suite():
    assert set(re.findall(r'requirements/(\w+)\.txt', (ROOT / 'requirements.txt').read_text())) == set(NAMES)


def test_pins_of_the_tested_stack_lie_in_the_ranges_of_the_wheel():
    build, runtime = requirements('build'), requirements('runtime')
    for package in ('torch', 'torchvision'):
        assert str(build[package]).removeprefix('==') in runtime[package]
    assert '2.9.1' not in runtime['torch'], 'weights_only loading could be bypassed: CVE-2026-24747'
    asked = Requirement(re.search(r"'(setuptools[^']*)'", (ROOT / 'pyproject.toml').read_text())[1])
    assert build['setuptools'] == runtime['setuptools'] == asked.specifier
    assert '81' not in asked.specifier, 'it has no pkg_resources, which mmengine imports'


def test_no_package_of_the_other_line_of_openmmlab():
    official = {'mmengine', 'mmcv', 'mmcv-lite', 'mmcv-full', 'mmpretrain', 'mmdet', 'mmsegmentation'}
    assert not official & {package for name in NAMES for package in requirements(name)}


def imported(folder):
    """{top-level module: file} of all that is imported, lazily or not, under a folder of this project."""
    modules = {}
    for path in folder.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            modules |= {name.split('.')[0]: path.relative_to(ROOT) for name in names}
    return modules


@pytest.mark.parametrize(
    ('folder', 'files'),
    [('a2mim_mm', ('runtime', 'mminstall', 'optional', 'channels', 'convert')), ('tests', NAMES)],
)
def test_what_is_imported_is_required(folder, files):
    required = {package.lower() for name in files for package in requirements(name)}
    own = {'a2mim_mm', 'tools', 'helpers', *(path.stem for path in (ROOT / 'tests').rglob('*.py'))}
    own |= {path.stem for path in (ROOT / 'tools').rglob('*.py')}
    for module, path in imported(ROOT / folder).items():
        if module not in sys.stdlib_module_names and module not in own:
            assert CALLED.get(module, module).lower() in required, f'{path} imports {module}'


def test_ruff_of_pre_commit_is_the_one_of_the_suite():
    pins = re.findall(r'ruff(==[\d.]+)', (ROOT / '.pre-commit-config.yaml').read_text())
    assert set(pins) == {str(requirements('tests')['ruff'])}
