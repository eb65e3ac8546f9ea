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
LEFT_OUT = '.git .venv* .wheels .cache .hypothesis work_dirs build __pycache__ *.egg-info'.split()


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
    command = [sys.executable, '-W', 'ignore', '-c', program, str(out)]
    done = subprocess.run(command, cwd=source, env=env, capture_output=True, text=True)
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


def test_wheel_holds_package_configs_and_tools_and_nothing_else(wheel):
    entries = {entry.filename: entry for entry in zipfile.ZipFile(wheel).infolist()}
    configs, tools = files('configs', '*.py'), files('tools', '*.[ps][yh]')
    modules = {f'a2mim_mm/{name}' for name in files('a2mim_mm', '*.py') if not name.startswith('.mim')}
    assert len(configs) > 20 and 'train.py' in tools and 'a2mim_mm/__init__.py' in modules
    wanted = {f'a2mim_mm/.mim/configs/{name}' for name in configs} | modules
    assert wanted | {f'a2mim_mm/.mim/tools/{name}' for name in tools} <= set(entries)
    info = wheel.name.split('-py3')[0] + '.dist-info'
    assert {name.split('/')[0] for name in entries} == {'a2mim_mm', info}
    assert not [name for name in entries if name.endswith('.pyc') or '/tools/dev/' in name]
    scripts = [entry for name, entry in entries.items() if name.endswith('.sh')]
    assert scripts and all(entry.external_attr >> 16 & 0o111 for entry in scripts), 'mim calls them'


def test_wheel_says_what_it_needs(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(name for name in archive.namelist() if name.endswith('METADATA'))).decode()
    for line in (
        'torch<2.12,>=2.10',
        'onedl-mmpretrain==1.3.6',
        'onedl-mmdetection==3.5.1; extra == "tests"',
    ):
        assert f'Requires-Dist: {line}' in metadata
    assert 'Requires-Python: >=3.10' in metadata


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
