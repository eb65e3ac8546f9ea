"""The commands of the Makefile and of CI, without what they install."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ('help', 'demo', 'test', 'test-slow', 'lint', 'format', 'clean', 'distclean')
# Stands for tools/dev/install.py: leaves the same traces, and a list of what it was told.
INSTALL = """
import json, os, pathlib, sys
for name in ('.a2mim/venv', 'bin/python', 'lib/python3.11/site-packages/mmcv/_ext.so'):
    path = pathlib.Path(sys.argv[2], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
with open('told', 'a') as file:
    json.dump([sys.argv[1], dict(os.environ)], file)
"""


@pytest.fixture
def call(monkeypatch):
    """Runs a command as a person would, not as part of the make that may run this test."""
    for name in ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS', 'MAKEOVERRIDES', 'PYTEST_ARGS', 'VENV', 'PYTHON'):
        monkeypatch.delenv(name, raising=False)

    def call(*command, cwd=ROOT, **env):
        return subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True)

    return call


def test_every_command_parses_and_is_listed(call):
    done, listed = call('make', '-n', *TARGETS), call('make').stdout
    assert done.returncode == 0, done.stderr
    assert all(f'make {target} ' in listed for target in TARGETS)


def test_commands_install_first_and_keep_caches_in_the_clone(call, tmp_path):
    venv = tmp_path / 'venv'
    demo = call('make', '-n', 'demo', 'PYTHON=elsewhere/python3.12', f'VENV={venv}').stdout
    assert 0 < demo.index(f'"elsewhere/python3.12" tools/dev/install.py demo "{venv}"')
    assert demo.index('install.py demo') < demo.index(f'"{venv}/bin/python" tools/demo.py')
    test = call('make', '-n', 'test', 'PYTEST_ARGS=-k token', f'VENV={venv}').stdout
    assert 0 < test.index('install.py test') < test.index('-m pytest -n 2 -k token')
    assert '-m pytest -m slow' in call('make', '-n', 'test-slow').stdout
    for name in 'XDG_CACHE_HOME MPLCONFIGDIR TORCH_HOME TORCHINDUCTOR_CACHE_DIR TRITON_CACHE_DIR'.split():
        assert f'{name}="{ROOT}/.cache' in test


@pytest.fixture
def install(call, tmp_path):
    """Calls make in a clone; returns what the installer was told, or nothing if it did not run."""
    clone = tmp_path / 'a clone'
    (clone / 'tools' / 'dev').mkdir(parents=True)
    (clone / 'tools' / 'dev' / 'install.py').write_text(INSTALL)
    shutil.copy(ROOT / 'Makefile', clone)
    for name in ('setup.py', 'pyproject.toml', 'requirements.txt'):
        (clone / name).touch()

    def install(target, folder=clone, python=sys.executable, **env):
        done = call('make', f'install-{target}', f'PYTHON={python}', cwd=folder, **env)
        assert done.returncode == 0, done.stderr
        told = folder / 'told'
        return json.loads(told.rename(tmp_path / 'read').read_text()) if told.exists() else []

    return install


def test_what_is_up_to_date_is_not_installed_again(install, tmp_path):
    clone, another = tmp_path / 'a clone', tmp_path / 'python'
    another.write_text(f'#!/bin/sh\n[ "$1" = -V ] && echo Python 3.99 || exec {sys.executable} "$@"\n')
    another.chmod(0o755)
    assert install('test') and install('demo') and not install('test') and not install('demo')
    (clone / 'requirements.txt').touch()
    assert install('test') and install('demo') and not install('test')
    next(clone.glob('.venv/lib/*/site-packages/mmcv/_ext.so')).unlink()
    assert not install('demo') and install('test') and not install('test')
    (clone / '.venv' / 'bin' / 'python').unlink()
    assert install('demo') and not install('demo')
    assert install('demo', python=another) and not install('demo', python=another)
    assert install('demo', folder=clone.rename(tmp_path / 'moved'))


def test_nothing_leaks_into_pip(install, tmp_path):
    target, env = install('demo', PYTHONPATH='elsewhere', PIP_TARGET='elsewhere', PIP_USER='1')
    assert target == 'demo' and 'PYTHONPATH' not in env and 'PIP_TARGET' not in env and env['PIP_USER'] == '0'
    assert env['TMPDIR'] == f'{tmp_path}/a clone/.cache/tmp' and Path(env['TMPDIR']).is_dir()


def test_an_old_python_is_refused_with_a_way_out(call, tmp_path):
    old = tmp_path / 'python'
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.18 && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = call('make', 'install-demo', f'PYTHON={old}', f'VENV={tmp_path}/venv')
    assert done.returncode and 'Python 3.10 or newer is needed' in done.stderr
    assert '3.8.18' in done.stderr and 'make PYTHON=' in done.stderr


@pytest.fixture
def checkout(tmp_path):
    """A clone that consists of .ci/run and of a Makefile to be written."""
    folder = tmp_path / 'a clone'
    (folder / '.ci').mkdir(parents=True)
    shutil.copy(ROOT / '.ci' / 'run', folder / '.ci' / 'run')

    def write(recipe):
        (folder / 'Makefile').write_text(f'test:\n\t@{recipe}\n')
        return folder

    return write


@pytest.mark.parametrize(
    ('recipe', 'passes'),
    [
        ('echo "== 12 passed, 1 skipped in 3.00s =="', True),
        ('echo "== 3 skipped in 3.00s =="', False),
        ('echo "== 0 passed =="', False),
        ('echo "== 1 failed, 12 passed in 3.00s =="; exit 2', False),
    ],
)
def test_ci_fails_unless_tests_ran_and_passed(call, checkout, recipe, passes):
    done = call('bash', '.ci/run', cwd=checkout(recipe))
    assert (done.returncode == 0) == passes, done.stdout + done.stderr
    assert not passes or done.stdout.splitlines()[-1].startswith('== 12 passed'), "pytest's summary is last"


def test_ci_adds_the_shared_wheels_where_there_are_any(call, checkout, tmp_path):
    recipe = 'echo "links=[$$PIP_FIND_LINKS]" 1 passed'
    assert 'links=[/a]' in call('bash', '.ci/run', cwd=checkout(recipe), PIP_FIND_LINKS='/a').stdout
    (tmp_path / 'shared' / 'wheels').mkdir(parents=True)
    out = call('bash', '.ci/run', cwd=checkout(recipe), PIP_FIND_LINKS='/a').stdout
    assert f'links=[/a {tmp_path}/shared/wheels]' in out
