"""The scripts behind `make install-*`: what they decide, without installing anything."""

import importlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBGL = 'ImportError: libGL.so.1: cannot open shared object file'


class FakeEnvironment:
    """Remembers pip's calls; its Python answers with the errors that it was given, one after the other."""

    def __init__(self, *errors, folder=Path('venv'), pip=lambda *options: None):
        self.folder, self.python, self.errors = folder, folder / 'bin' / 'python', list(errors)
        self.calls, self.answer = [], pip

    def pip(self, *options, **_):
        self.calls.append(options)
        self.answer(*options)

    def error_of(self, code):
        return self.errors.pop(0) if self.errors else ''


@pytest.fixture
def dev(monkeypatch):
    """The modules of tools/dev, imported as the scripts import each other; forgotten afterwards."""
    monkeypatch.syspath_prepend(ROOT / 'tools' / 'dev')
    names = ('environment', 'mmcv_ops', 'install')
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    for name in names:
        sys.modules.pop(name)


@pytest.fixture
def wheels(dev, tmp_path, monkeypatch):
    """The folder of what is compiled."""
    monkeypatch.setattr(dev.mmcv_ops, 'folder', lambda: tmp_path)
    return tmp_path


def test_mmcv_never_comes_from_the_cache_of_pip(dev, wheels):
    env = FakeEnvironment(folder=wheels / 'venv')
    dev.mmcv_ops.install_mmcv(env, with_ops=False)
    dev.mmcv_ops.install_mmcv(env, with_ops=True)
    (wheels / 'ops').mkdir()
    version = dev.environment.pin('onedl-mmcv')
    kept = wheels / 'ops' / f'onedl_mmcv-{version}-cp311-cp311-linux_x86_64.whl'
    kept.touch()
    dev.mmcv_ops.install_mmcv(env, with_ops=True)
    ops = wheels / 'venv' / 'lib' / 'python3.11' / 'site-packages' / 'mmcv' / '_ext.so'
    ops.parent.mkdir(parents=True)
    ops.touch()
    dev.mmcv_ops.install_mmcv(env, with_ops=True)
    assert all(call[:3] == ('install', '--no-cache-dir', '--no-deps') for call in env.calls)
    assert [call[3:] for call in env.calls] == [
        ('--no-binary', 'onedl-mmcv', f'onedl-mmcv=={version}'),
        ('--force-reinstall', f'onedl-mmcv=={version}'),
        ('--force-reinstall', str(kept)),
        (str(kept),),
    ]


def test_a_compilation_goes_on_where_it_was_stopped(dev, wheels):
    name = f'onedl_mmcv-{dev.environment.pin("onedl-mmcv")}'

    def pip(verb, *options):
        source = wheels / 'source' / name
        if verb == 'download':
            (wheels / 'made' / name).mkdir(parents=True)
            shutil.make_archive(source, 'gztar', wheels / 'made')
            shutil.rmtree(wheels / 'made')
            return
        made = Path(options[options.index('--wheel-dir') + 1])
        made.mkdir(exist_ok=True)
        (made / f'{name}-any.whl').touch()
        if not (source / 'a.o').exists():
            (source / 'a.o').touch()
            raise KeyboardInterrupt

    env = FakeEnvironment(pip=pip)
    with pytest.raises(KeyboardInterrupt):
        dev.mmcv_ops.compile_ops(env)
    assert not (wheels / 'ops').exists(), 'half a wheel is not kept'
    assert dev.mmcv_ops.compile_ops(env) == wheels / 'ops' / f'{name}-any.whl'
    assert [call[0] for call in env.calls] == ['download', 'wheel', 'wheel']
    assert all('--no-cache-dir' in call and '--no-build-isolation' in call for call in env.calls)
    assert [path.name for path in wheels.iterdir()] == ['ops'], 'the source is not needed any more'


@pytest.mark.parametrize(
    ('errors', 'compiles', 'message'),
    [
        (['', ''], False, None),
        (['', 'undefined symbol', ''], True, None),
        (['', 'undefined symbol', 'undefined symbol'], True, '_ext` fails.*undefined symbol'),
        (['libcudart: cannot open'], False, 'libcudart.*run make again'),
    ],
    ids=['working ops', 'ops of another torch', 'ops that never work', 'a torch that does not work'],
)
def test_ops_are_compiled_where_that_helps(dev, monkeypatch, errors, compiles, message):
    monkeypatch.setattr(dev.mmcv_ops, 'compile_ops', lambda env: Path('compiled.whl'))
    env = FakeEnvironment(*errors)
    with pytest.raises(dev.environment.InstallError, match=message) if message else nullcontext():
        dev.mmcv_ops.ensure_ops(env)
    assert ['compiled.whl' in call and '--force-reinstall' in call for call in env.calls] == [True] * compiles


def test_a_missing_compiler_is_told_with_two_ways_out(dev, monkeypatch):
    monkeypatch.setenv('CXX', 'absent')
    with pytest.raises(dev.environment.InstallError, match='absent.*apt install.*PIP_FIND_LINKS'):
        dev.mmcv_ops.compile_ops(FakeEnvironment())


def test_settings_of_the_compiler(dev, monkeypatch):
    for name in ('FORCE_CUDA', 'CFLAGS', 'MAX_JOBS'):
        monkeypatch.delenv(name, raising=False)
    on_gpu = dev.mmcv_ops.compiler_env(FakeEnvironment())
    assert on_gpu['CFLAGS'] == '-g0' and int(on_gpu['MAX_JOBS']) >= 1 and 'CUDA_VISIBLE_DEVICES' not in on_gpu
    assert dev.mmcv_ops.compiler_env(FakeEnvironment('no nvcc'))['CUDA_VISIBLE_DEVICES'] == ''
    for name, value in {'FORCE_CUDA': '1', 'CFLAGS': '-O1', 'MAX_JOBS': '7'}.items():
        monkeypatch.setenv(name, value)
    chosen = dev.mmcv_ops.compiler_env(FakeEnvironment('no nvcc'))
    assert (chosen['CFLAGS'], chosen['MAX_JOBS'], 'CUDA_VISIBLE_DEVICES' in chosen) == ('-O1', '7', False)


def mark(folder):
    """Marks a virtual environment as a whole one of this Python in this place."""
    (folder / '.a2mim').mkdir(parents=True)
    (folder / '.a2mim' / 'venv').write_text(f'Python {platform.python_version()} in {folder}')


def test_a_folder_of_something_else_is_not_deleted(dev, tmp_path):
    (tmp_path / 'thesis.tex').touch()
    with pytest.raises(dev.environment.InstallError, match='not a virtual environment'):
        dev.environment.Environment(tmp_path).create()
    assert (tmp_path / 'thesis.tex').exists()


def test_a_full_disk_is_told_before_it_is_full(dev, tmp_path, monkeypatch):
    monkeypatch.setattr(dev.environment.shutil, 'disk_usage', lambda _: SimpleNamespace(free=3e9))
    with pytest.raises(dev.environment.InstallError, match='only 3.0 GB'):
        dev.environment.Environment(tmp_path / 'venv').create()


@pytest.mark.parametrize(
    ('python', 'version', 'is_made'),
    [(sys.executable, None, False), (sys.executable, '3.9.1', True), ('uninstalled', None, True)],
    ids=['a whole one', 'another Python', 'no interpreter'],
)
def test_an_environment_that_does_not_fit_is_made_anew(dev, tmp_path, monkeypatch, python, version, is_made):
    mark(tmp_path)
    (tmp_path / 'pyvenv.cfg').touch()
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin' / 'python').symlink_to(python)
    if version:
        monkeypatch.setattr(platform, 'python_version', lambda: version)
    monkeypatch.setattr(dev.environment, 'run', lambda command: '--clear' in command)  # and venv fails
    with pytest.raises(dev.environment.InstallError, match='python3-venv') if is_made else nullcontext():
        dev.environment.Environment(tmp_path).create()


def test_half_installed_packages_are_swept_away(dev, tmp_path):
    site = tmp_path / 'lib' / 'python3.11' / 'site-packages'
    for name in ('whole-1.dist-info', 'half-1.dist-info', '~orch', 'torch'):
        (site / name).mkdir(parents=True)
    (site / 'whole-1.dist-info' / 'RECORD').touch()
    dev.environment.Environment(tmp_path).sweep()
    assert sorted(path.name for path in site.iterdir()) == ['torch', 'whole-1.dist-info']


@pytest.mark.parametrize(
    ('on_hangup', 'numbers'),
    [
        (signal.SIG_DFL, [signal.SIGINT]),
        (signal.SIG_DFL, [signal.SIGTERM]),
        (signal.SIG_DFL, [signal.SIGHUP]),  # the terminal is closed
        (signal.SIG_IGN, [signal.SIGHUP, signal.SIGTERM]),  # below nohup, a closed terminal changes nothing
    ],
)
def test_a_signal_ends_all_that_was_started(tmp_path, on_hangup, numbers):
    """A shell and its child stand for pip and a compiler; a background job ignores Ctrl-C."""
    mark(tmp_path / 'venv')
    pip, pid = tmp_path / 'venv' / 'bin' / 'python', tmp_path / 'pid'
    pip.parent.mkdir()
    pip.write_text(f"#!/bin/sh\nsh -c 'echo $$ > {pid}; exec sleep 60'\ntrue\n")
    pip.chmod(0o755)

    def background():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, on_hangup)

    command = [sys.executable, ROOT / 'tools' / 'dev' / 'install.py', 'lint', tmp_path / 'venv']
    with subprocess.Popen(command, preexec_fn=background, stderr=subprocess.PIPE, text=True) as process:
        while not (pid.exists() and pid.read_text().strip()):
            assert process.poll() is None
            time.sleep(0.05)
        for number in numbers:
            assert process.poll() is None
            process.send_signal(number)
            time.sleep(0.5)
        assert 'goes on from here' in process.communicate(timeout=30)[1] and process.returncode
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # until init has reaped it
            os.kill(int(pid.read_text()), 0)
            time.sleep(0.1)


def test_it_tells_how_far_it_is(dev, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dev.environment, 'HEARTBEAT_S', 0.05)
    command = ['sh', '-c', f'until [ -e {tmp_path}/told ]; do sleep 0.01; done']
    assert dev.environment.run(command, progress=lambda: (tmp_path / 'told').touch() or '7 of 78') == 0
    assert '7 of 78' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('errors', 'is_exchanged', 'message'),
    [
        ([LIBGL, ''], True, None),
        ([LIBGL, 'still broken'], True, 'still broken'),
        (["No module named 'cv2'"], False, 'No module'),
    ],
)
def test_a_missing_libgl_is_answered_by_the_headless_twin(dev, tmp_path, errors, is_exchanged, message):
    info = tmp_path / 'lib' / 'python3.11' / 'site-packages' / 'opencv_python-4.12.0.88.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: opencv-python\nVersion: 4.12.0.88\n')
    env = FakeEnvironment(*errors, folder=tmp_path)
    with pytest.raises(dev.environment.InstallError, match=message) if message else nullcontext():
        dev.install.fix_cv2(env)
    assert [call[-1] for call in env.calls] == ['opencv-python-headless==4.12.0.88'] * is_exchanged
