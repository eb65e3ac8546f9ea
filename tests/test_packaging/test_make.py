"""The commands of the Makefile and of CI, without what they install."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ('help', 'demo', 'test', 'test-slow', 'lint', 'format', 'clean', 'distclean')


@pytest.fixture
def call(monkeypatch):
    """Runs a command as a person would, not as part of the make that may run this test."""
    for name in ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS', 'MAKEOVERRIDES', 'PYTEST_ARGS', 'VENV', 'PYTHON'):
        monkeypatch.delenv(name, raising=False)

    def call(*command, cwd=ROOT, **env):
        return subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True)

    return call


@pytest.mark.parametrize('target', TARGETS)
def test_targets_parse(call, target):
    done = call('make', '-n', target)
    assert done.returncode == 0, done.stderr


def test_help_lists_every_command(call):
    out = call('make').stdout
    for target in TARGETS:
        assert f'make {target} ' in out


def test_demo_and_test_install_first_and_then_run(call):
    demo = call('make', '-n', 'demo').stdout
    assert 0 < demo.index('install.py demo') < demo.index('tools/demo.py')
    test = call('make', '-n', 'test', 'PYTEST_ARGS=-k token').stdout
    assert 0 < test.index('install.py test') < test.index('-m pytest -n 2 -k token')
    assert '-m pytest -m slow' in call('make', '-n', 'test-slow').stdout


def test_caches_of_libraries_stay_in_the_clone(call):
    run = next(line for line in call('make', '-n', 'test').stdout.splitlines() if '-m pytest' in line)
    for name in (
        'XDG_CACHE_HOME',
        'MPLCONFIGDIR',
        'TORCH_HOME',
        'TORCHINDUCTOR_CACHE_DIR',
        'TRITON_CACHE_DIR',
    ):
        assert f'{name}="{ROOT}/.cache' in run


def test_interpreter_and_folder_can_be_chosen(call):
    out = call('make', '-n', 'demo', 'PYTHON=elsewhere/python3.12', 'VENV=.venv312').stdout
    assert '"elsewhere/python3.12" tools/dev/install.py demo --venv ".venv312"' in out
    assert f'{ROOT}/.venv312/bin/python" tools/demo.py' in out


def test_an_old_python_is_refused_with_a_way_out(call, tmp_path):
    old = tmp_path / 'python'
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.18 && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = call('make', 'install-demo', f'PYTHON={old}')
    assert done.returncode and 'Python 3.10 or newer is needed' in done.stderr
    assert '3.8.18' in done.stderr and 'make PYTHON=' in done.stderr


@pytest.fixture
def checkout(tmp_path):
    """A clone that consists of .ci/run and of a Makefile to be written."""
    folder = tmp_path / 'clone'
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
        ('echo "== no tests ran in 0.01s =="', False),
        ('echo "== 0 passed =="', False),
        ('echo "== 1 failed, 12 passed in 3.00s =="; exit 2', False),
    ],
)
def test_ci_fails_unless_tests_ran_and_passed(call, checkout, recipe, passes):
    done = call('bash', '.ci/run', cwd=checkout(recipe))
    assert (done.returncode == 0) == passes, done.stdout + done.stderr


def test_ci_ends_with_the_summary_of_pytest(call, checkout):
    done = call('bash', '.ci/run', cwd=checkout('echo "== 12 passed in 3.00s =="'))
    assert done.stdout.splitlines()[-1] == '== 12 passed in 3.00s =='


def test_ci_adds_the_shared_wheels_where_there_are_any(call, checkout, tmp_path):
    recipe = 'echo "links=[$$PIP_FIND_LINKS]" 1 passed'
    assert 'links=[/a]' in call('bash', '.ci/run', cwd=checkout(recipe), PIP_FIND_LINKS='/a').stdout
    (tmp_path / 'shared' / 'wheels').mkdir(parents=True)
    out = call('bash', '.ci/run', cwd=checkout(recipe), PIP_FIND_LINKS='/a').stdout
    assert f'links=[/a {tmp_path}/shared/wheels]' in out
