"""What ends up in wheels and source distributions, so that `mim train a2mim_mm CONFIG` finds it."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = (
    '.git',
    '.venv*',
    '.wheels',
    '.cache',
    '.hypothesis',
    'work_dirs',
    'build',
    '__pycache__',
    '*.egg-info',
)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of the source tree, links kept as links: building writes beside setup.py."""
    folder = tmp_path_factory.mktemp('packaging') / 'source'
    shutil.copytree(ROOT, folder, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return folder


def build(kind, source, out):
    """Calls setuptools' hook as pip does, without the isolation that needs an index; returns its product."""
    out.mkdir()
    program = f'from setuptools.build_meta import {kind} as f; import sys; print("made", f(sys.argv[1]))'
    env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', program, str(out)],
        cwd=source,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split('made ')[-1].strip()


@pytest.fixture(scope='module')
def sdist(source, tmp_path_factory):
    return build('build_sdist', source, tmp_path_factory.mktemp('sdist') / 'out')


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    return build('build_wheel', source, tmp_path_factory.mktemp('wheel') / 'out')


def files(folder, pattern):
    """Names under a folder of the source tree, relative to it, without the scripts for developers."""
    names = [path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob(pattern)]
    return {str(name) for name in names if 'dev' not in name.parts}


def test_wheel_holds_package_configs_and_tools(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f'a2mim_mm/.mim/configs/{name}' for name in files('configs', '*.py')} <= names
    assert {f'a2mim_mm/.mim/tools/{name}' for name in files('tools', '*.[ps][yh]')} <= names
    modules = {
        str(path.relative_to(ROOT)) for path in (ROOT / 'a2mim_mm').rglob('*.py') if '.mim' not in path.parts
    }
    assert modules <= names
    assert files('configs', '*.py') and files('tools', '*.py') and files('tools', '*.sh'), (
        'the lists above are real'
    )


def test_wheel_holds_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split('/')[0] for name in names} == {'a2mim_mm', wheel.name.split('-py3')[0] + '.dist-info'}
    assert not [name for name in names if name.endswith('.pyc') or '/tools/dev/' in name]


def test_scripts_in_the_wheel_can_be_run(wheel):
    scripts = [entry for entry in zipfile.ZipFile(wheel).infolist() if entry.filename.endswith('.sh')]
    assert scripts and all(entry.external_attr >> 16 & 0o111 for entry in scripts)


def test_wheel_says_what_it_needs(wheel):
    archive = zipfile.ZipFile(wheel)
    name = next(name for name in archive.namelist() if name.endswith('METADATA'))
    metadata = archive.read(name).decode()
    for line in (
        'Requires-Dist: torch<2.12,>=2.10',
        'Requires-Dist: onedl-mmpretrain==1.3.6',
        'Requires-Python: >=3.10',
    ):
        assert line in metadata
    assert 'Requires-Dist: onedl-mmdetection==3.5.1; extra == "tests"' in metadata


def test_sdist_gives_the_same_wheel(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter='data')
    again = build('build_wheel', next(tmp_path.iterdir()), tmp_path / 'out')
    assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_editable_install_is_found_by_mim(source, tmp_path):
    """openmim joins site-packages with the first line of top_level.txt."""
    path = build('build_editable', source, tmp_path / 'out')
    archive = zipfile.ZipFile(path)
    name = next(name for name in archive.namelist() if name.endswith('top_level.txt'))
    first = archive.read(name).decode().splitlines()[0]
    found = Path(os.path.join('site-packages', first))
    assert found == source / 'a2mim_mm'
    assert (found / '.mim' / 'tools' / 'train.py').is_file() and (found / '.mim' / 'configs').is_dir()


def test_building_leaves_only_what_git_ignores(source, wheel, sdist):
    made = {path.name for path in source.iterdir()} - {path.name for path in ROOT.iterdir()}
    assert made <= {'build', 'a2mim_mm.egg-info'}
    assert not list((source / 'a2mim_mm' / '.mim').rglob('*.egg-info'))
    ignored = (ROOT / '.gitignore').read_text().splitlines()
    assert {'/build/', '*.egg-info/'} <= set(ignored)
