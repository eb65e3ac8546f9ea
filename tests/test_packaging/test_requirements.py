"""The requirement files say what the stack is, and cover what the package imports."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The one stack that is tested. 77: onedl-mmcv's metadata; 81 has no pkg_resources.
PINS = {
    'torch': '==2.11.0',
    'torchvision': '==0.26.0',
    'setuptools': '>=77,<81',
    'onedl-mmengine': '==0.10.12',
    'onedl-mmcv': '==2.3.6',
    'onedl-mmpretrain': '==1.3.6',
    'onedl-mmdetection': '==3.5.1',
    'onedl-mmsegmentation': '==1.4.2',
}
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
    """{package: specifiers} of `requirements/<name>.txt`, and its lines."""
    text = (ROOT / 'requirements' / f'{name}.txt').read_text()
    lines = [line for line in text.splitlines() if line.split('#')[0].strip()]
    pairs = (re.match(r'([A-Za-z0-9_.-]+)\s*([^#]*)', line).groups() for line in lines)
    return {package: specifiers.strip() for package, specifiers in pairs}, lines


def test_the_six_files_are_there_and_nothing_else():
    names = {path.stem for path in (ROOT / 'requirements').iterdir()}
    assert names == {'build', 'runtime', 'mminstall', 'optional', 'convert', 'tests'}
    listed = re.findall(r'requirements/(\w+)\.txt', (ROOT / 'requirements.txt').read_text())
    assert set(listed) == names


@pytest.mark.parametrize('package', PINS)
def test_pins(package):
    found = {}
    for name in ('build', 'mminstall', 'tests'):
        found |= requirements(name)[0]
    assert found[package] == PINS[package]


def test_ranges_admit_the_pins():
    from packaging.specifiers import SpecifierSet

    runtime = requirements('runtime')[0]
    for package in ('torch', 'torchvision'):
        assert PINS[package].removeprefix('==') in SpecifierSet(runtime[package])
    assert runtime['setuptools'] == PINS['setuptools']
    assert runtime['torch'].startswith('>=2.10')  # CVE-2026-24747


def test_every_limit_has_a_reason():
    for name in ('build', 'runtime', 'mminstall', 'tests'):
        for line in requirements(name)[1]:
            limited = re.search(r'==|<', line.split('#')[0])
            assert not limited or '#' in line, f'{name}.txt: {line}'


def test_no_line_mixes_the_two_lines_of_openmmlab():
    for path in (ROOT / 'requirements').glob('*.txt'):
        packages = requirements(path.stem)[0]
        official = {'mmengine', 'mmcv', 'mmcv-lite', 'mmcv-full', 'mmpretrain', 'mmdet', 'mmsegmentation'}
        assert not official & set(packages)


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
    [
        ('a2mim_mm', ('runtime', 'mminstall', 'optional', 'convert')),
        ('tests', ('build', 'runtime', 'mminstall', 'optional', 'convert', 'tests')),
    ],
)
def test_what_is_imported_is_required(folder, files):
    required = {package.lower() for name in files for package in requirements(name)[0]}
    own = {'a2mim_mm', 'tools', 'helpers', *(path.stem for path in (ROOT / 'tests').rglob('*.py'))}
    own |= {path.stem for path in (ROOT / 'tools').rglob('*.py')}
    for module, path in imported(ROOT / folder).items():
        if module in sys.stdlib_module_names or module in own:
            continue
        assert CALLED.get(module, module).lower() in required, f'{path} imports {module}'


def test_ruff_of_pre_commit_is_the_one_of_the_suite():
    hooks = (ROOT / '.pre-commit-config.yaml').read_text()
    pins = re.findall(r'ruff==([\d.]+)', hooks)
    assert pins and {f'=={pin}' for pin in pins} == {requirements('tests')[0]['ruff']}
