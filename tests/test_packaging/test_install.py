"""The scripts behind `make demo` and `make test`: what they decide, without installing anything."""

import os
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.tags import sys_tags

ROOT = Path(__file__).resolve().parents[2]
VERSION = '2.3.6'


@pytest.fixture
def dev(monkeypatch):
    """The modules of tools/dev, imported as the scripts import each other; forgotten afterwards."""
    monkeypatch.syspath_prepend(ROOT / 'tools' / 'dev')
    names = ('environment', 'mmcv_wheels', 'install')
    modules = {name: __import__(name) for name in names}
    yield SimpleNamespace(**modules)
    for name in names:
        sys.modules.pop(name)


class FakeEnvironment:
    """Stands in for a virtual environment: remembers pip's calls and lets a test decide what they do."""

    def __init__(self, pip=lambda *options: None, errors=(), has_ops=True, found='no-gpu'):
        self.python = Path(sys.executable)
        self.folder = self.python.parents[1]
        self.log = Path('install.log')
        self.calls = []
        self._pip, self._errors, self._has_ops, self._found = pip, list(errors), has_ops, found

    def pip(self, what, verb, *options, **keywords):
        self.calls.append((verb, *options))
        self._pip(*options)

    def error_of(self, code):
        return self._errors.pop(0) if '_ext' in code and self._errors else ''

    def output_of(self, code):
        return self._found

    def has(self, pattern):
        return self._has_ops


def write_wheel(folder: Path, tag: str, with_ops: bool) -> Path:
    """A wheel of mmcv that pip accepts, with or without something that looks like compiled ops."""
    path = folder / f'onedl_mmcv-{VERSION}-{tag}.whl'
    info = f'onedl_mmcv-{VERSION}.dist-info'
    files = {
        'mmcv/__init__.py': '',
        f'{info}/METADATA': f'Metadata-Version: 2.1\nName: onedl-mmcv\nVersion: {VERSION}\n',
        f'{info}/WHEEL': f'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n',
        f'{info}/RECORD': '',
    }
    if with_ops:
        files['mmcv/_ext.cpython-311-x86_64-linux-gnu.so'] = 'elf'
    with zipfile.ZipFile(path, 'w') as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def wheels(dev, tmp_path):
    """Keeps wheels under tmp_path; `links` beside it is the only place where pip may look."""
    return dev.mmcv_wheels.MmcvWheels(FakeEnvironment(), VERSION, '9.9.0', root=tmp_path / 'wheels')


@pytest.fixture
def links(tmp_path, monkeypatch):
    folder = tmp_path / 'links'
    folder.mkdir()
    monkeypatch.setenv('PIP_FIND_LINKS', str(folder))
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_CONFIG_FILE', os.devnull)
    return folder


class TestRequirements:
    def test_comments_go_and_repeats_are_dropped(self, dev, tmp_path, monkeypatch):
        (tmp_path / 'a.txt').write_text('# heading\nnumpy>=2  # why\n\nrich\n')
        (tmp_path / 'b.txt').write_text('rich\ntorch==1.2\n')
        monkeypatch.setattr(dev.install, 'REQUIREMENTS', tmp_path)
        assert dev.install.read_requirements(['a', 'b']) == ['numpy>=2', 'rich', 'torch==1.2']

    def test_pin_is_read_and_a_missing_one_is_named(self, dev):
        assert dev.install.pinned(['torchvision==3', 'torch==1.2'], 'torch') == '1.2'
        with pytest.raises(dev.environment.InstallError, match='does not pin torch'):
            dev.install.pinned(['torch>=1.2', 'torchvision==3'], 'torch')

    @pytest.mark.parametrize('changed', ['runtime', 'mminstall'])
    def test_fingerprint_changes_with_the_requirements(self, dev, tmp_path, monkeypatch, changed):
        for path in (ROOT / 'requirements').glob('*.txt'):
            (tmp_path / path.name).write_text(path.read_text())
        monkeypatch.setattr(dev.install, 'REQUIREMENTS', tmp_path)
        before = dev.install.fingerprint('demo', '3.11.0')
        assert dev.install.fingerprint('demo', '3.11.0') == before
        assert dev.install.fingerprint('demo', '3.12.0') != before
        assert dev.install.fingerprint('test', '3.11.0') != before
        with (tmp_path / f'{changed}.txt').open('a') as file:
            file.write('another\n')
        assert dev.install.fingerprint('demo', '3.11.0') != before


class TestWheels:
    def test_ops_are_recognised(self, dev, tmp_path):
        assert dev.mmcv_wheels.has_ops(write_wheel(tmp_path, 'py3-none-any', with_ops=True))
        assert not dev.mmcv_wheels.has_ops(write_wheel(tmp_path, 'py2-none-any', with_ops=False))

    def test_a_fitting_wheel_is_found_and_kept_apart(self, wheels, links):
        made = write_wheel(links, str(next(sys_tags())), with_ops=True)
        kept = wheels.find()
        assert kept == wheels.folder / 'ops' / made.name
        assert f'torch9.9.0-cp3{sys.version_info[1]}' == wheels.folder.name
        assert made.exists(), 'the original stays where it was'
        assert wheels.env.calls == [], 'nothing was built'

    @pytest.mark.parametrize(
        ('tag', 'with_ops'), [('cp27-cp27m-linux_x86_64', True), ('py3-none-any', False)]
    )
    def test_a_foreign_or_opless_wheel_is_not_taken(self, wheels, links, tag, with_ops):
        write_wheel(links, tag, with_ops)
        assert wheels.find() is None
        assert not (wheels.folder / 'ops').exists()

    def test_kept_before_found_before_compiled(self, wheels, monkeypatch):
        monkeypatch.setattr(wheels, 'find', lambda: None)
        monkeypatch.setattr(wheels, 'compile', lambda: 'compiled')
        assert wheels.with_ops() == 'compiled'
        monkeypatch.setattr(wheels, 'find', lambda: 'found')
        assert wheels.with_ops() == 'found'
        (wheels.folder / 'ops').mkdir()
        kept = write_wheel(wheels.folder / 'ops', 'py3-none-any', with_ops=True)
        assert wheels.with_ops() == kept

    def test_a_stopped_compilation_leaves_no_wheel_but_its_objects(self, wheels):
        objects = wheels.folder / 'source' / 'onedl_mmcv' / 'build' / 'a.o'
        objects.parent.mkdir(parents=True)
        objects.touch()

        def stopped(*options):
            folder = Path(options[options.index('--wheel-dir') + 1])
            (folder / f'onedl_mmcv-{VERSION}-half.whl').write_bytes(b'PK')
            raise KeyboardInterrupt

        wheels.env._pip = stopped
        with pytest.raises(KeyboardInterrupt):
            wheels.compile()
        assert not list(wheels.folder.rglob('*.whl'))
        assert objects.exists()

    def test_a_finished_compilation_is_kept_and_tidied(self, wheels):
        (wheels.folder / 'source' / 'onedl_mmcv').mkdir(parents=True)
        wheels.env._pip = lambda *options: write_wheel(
            Path(options[options.index('--wheel-dir') + 1]), 'py3-none-any', with_ops=True
        )
        assert wheels.compile().parent == wheels.folder / 'ops'
        assert [path.name for path in wheels.folder.iterdir()] == ['ops']

    def test_mmcv_is_never_read_from_or_left_in_the_cache_of_pip(self, dev, wheels):
        (wheels.folder / 'source' / 'onedl_mmcv').mkdir(parents=True)
        for build in (wheels.compile, wheels.without_ops):
            with pytest.raises(dev.environment.InstallError):
                build()  # nothing appears, as this pip does nothing
        assert [call[0] for call in wheels.env.calls] == ['wheel', 'wheel']
        assert all('--no-cache-dir' in call and '--no-deps' in call for call in wheels.env.calls)
        assert '--no-build-isolation' in wheels.env.calls[0]
        assert '--no-build-isolation' not in wheels.env.calls[1]

    @pytest.mark.parametrize(('found', 'for_gpu'), [('cuda', True), ('no-nvcc', False), ('no-gpu', False)])
    def test_kernels_are_compiled_where_gpu_and_compiler_are(self, dev, monkeypatch, found, for_gpu):
        for name in ('FORCE_CUDA', 'CFLAGS', 'MAX_JOBS'):
            monkeypatch.delenv(name, raising=False)
        env = dev.mmcv_wheels.compiler_env(FakeEnvironment(found=found))
        assert ('CUDA_VISIBLE_DEVICES' not in env) == for_gpu
        assert env['CFLAGS'] == '-g0'
        assert int(env['MAX_JOBS']) >= 1

    def test_what_the_user_sets_for_the_compiler_is_kept(self, dev, monkeypatch):
        monkeypatch.setenv('FORCE_CUDA', '1')
        monkeypatch.setenv('CFLAGS', '-O1')
        monkeypatch.setenv('MAX_JOBS', '7')
        env = dev.mmcv_wheels.compiler_env(FakeEnvironment(found='no-gpu'))
        assert (env['CFLAGS'], env['MAX_JOBS'], 'CUDA_VISIBLE_DEVICES' in env) == ('-O1', '7', False)


class TestInstallOps:
    def wheels(self, dev, compiled):
        return SimpleNamespace(
            with_ops=lambda: Path('found.whl'),
            compile=lambda: compiled.append(True) or Path('compiled.whl'),
            forget_ops=lambda: None,
        )

    def test_working_ops_are_left_alone(self, dev):
        env, compiled = FakeEnvironment(), []
        dev.install.install_ops(env, self.wheels(dev, compiled))
        assert env.calls == [] and not compiled

    def test_an_opless_mmcv_is_replaced_by_force(self, dev):
        env, compiled = FakeEnvironment(has_ops=False), []
        dev.install.install_ops(env, self.wheels(dev, compiled))
        assert [call[-1] for call in env.calls] == ['found.whl'] and not compiled
        assert '--force-reinstall' in env.calls[0]

    def test_a_wheel_of_another_torch_is_compiled_anew(self, dev):
        env, compiled = FakeEnvironment(has_ops=False, errors=['undefined symbol']), []
        dev.install.install_ops(env, self.wheels(dev, compiled))
        assert [call[-1] for call in env.calls] == ['found.whl', 'compiled.whl'] and compiled

    def test_ops_that_never_work_are_an_error(self, dev):
        env = FakeEnvironment(has_ops=False, errors=['undefined symbol', 'undefined symbol'])
        with pytest.raises(dev.environment.InstallError, match='undefined symbol'):
            dev.install.install_ops(env, self.wheels(dev, []))


class TestEnvironment:
    def test_an_up_to_date_environment_is_not_touched(self, dev, tmp_path):
        env = dev.environment.Environment(tmp_path)
        (tmp_path / 'bin').mkdir()
        env.python.touch()
        mmcv = tmp_path / 'lib' / 'python3.11' / 'site-packages' / 'mmcv'
        mmcv.mkdir(parents=True)
        (mmcv / '__init__.py').touch()
        env.set_stamp('demo', dev.install.fingerprint('demo', env.version))
        before = sorted(tmp_path.rglob('*'))
        dev.install.install('demo', env)  # would fail: this Python is an empty file
        assert sorted(tmp_path.rglob('*')) == before

    def test_a_stranger_in_its_place_is_not_deleted(self, dev, tmp_path):
        (tmp_path / 'thesis.tex').touch()
        with pytest.raises(dev.environment.InstallError, match='not a virtual environment'):
            dev.environment.Environment(tmp_path).create()
        assert (tmp_path / 'thesis.tex').exists()

    def test_half_installed_packages_are_swept_away(self, dev, tmp_path):
        site = tmp_path / 'lib' / 'python3.11' / 'site-packages'
        for name in ('whole-1.dist-info', 'half-1.dist-info', '~orch', 'torch'):
            (site / name).mkdir(parents=True)
        (site / 'whole-1.dist-info' / 'RECORD').touch()
        dev.environment.Environment(tmp_path).sweep()
        assert sorted(path.name for path in site.iterdir()) == ['torch', 'whole-1.dist-info']

    def test_a_full_disk_is_said_before_it_is_full(self, dev, tmp_path, monkeypatch):
        monkeypatch.setattr(dev.environment.shutil, 'disk_usage', lambda _: SimpleNamespace(free=3e9))
        with pytest.raises(dev.environment.InstallError, match='3.0 GB left'):
            dev.environment.Environment(tmp_path / 'venv').create()

    def test_nothing_leaks_into_pip(self, dev, monkeypatch):
        monkeypatch.setenv('PYTHONPATH', 'elsewhere')
        monkeypatch.setenv('PIP_TARGET', 'elsewhere')
        env = dev.environment.clean_env(CFLAGS='-g0')
        assert 'PYTHONPATH' not in env and 'PIP_TARGET' not in env
        assert env['CFLAGS'] == '-g0'


class TestRun:
    def test_it_tells_how_far_it_is(self, dev, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(dev.environment, 'HEARTBEAT_S', 0.05)
        # Ends when the log shows a heartbeat's side effect, not after a fixed time.
        flag = tmp_path / 'beaten'
        code = f'import os, time\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.01)'

        def progress():
            flag.touch()
            return '7 of 78'

        dev.environment.run('compiling', [sys.executable, '-c', code], tmp_path / 'log', progress)
        out = capsys.readouterr().out
        assert 'compiling: 0:00  7 of 78' in out and 'compiling: done in' in out

    def test_by_default_the_log_tells(self, dev, tmp_path):
        (tmp_path / 'log').write_text('Collecting torch\n  Downloading torch\n\nWARNING: slow mirror\n')
        assert dev.environment.last_line(tmp_path / 'log') == 'Downloading torch'
        (tmp_path / 'log').write_text('')
        assert dev.environment.last_line(tmp_path / 'log') == ''

    def test_a_failure_shows_the_end_of_its_output(self, dev, tmp_path, capsys):
        with pytest.raises(dev.environment.InstallError, match='exit status 3'):
            code = 'print("the reason"); raise SystemExit(3)'
            dev.environment.run('compiling', [sys.executable, '-c', code], tmp_path / 'log')
        assert 'the reason' in capsys.readouterr().out

    def test_an_interruption_ends_the_command_too(self, dev, tmp_path, monkeypatch):
        monkeypatch.setattr(dev.environment, 'HEARTBEAT_S', 0.05)
        pid = tmp_path / 'pid'
        code = f'import os, time; open({str(pid)!r}, "w").write(str(os.getpid())); time.sleep(600)'

        def ctrl_c():
            if pid.exists() and pid.read_text():
                raise KeyboardInterrupt
            return ''

        with pytest.raises(KeyboardInterrupt):
            dev.environment.run('compiling', [sys.executable, '-c', code], tmp_path / 'log', ctrl_c)
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


class TestCv2:
    def test_a_missing_libgl_is_answered_by_the_headless_twin(self, dev):
        errors = ['ImportError: libGL.so.1: cannot open shared object file', '']
        env = FakeEnvironment(found='4.12.0.88')
        env.error_of = lambda code: errors.pop(0)
        dev.install.fix_cv2(env)
        assert env.calls[0][-1] == 'opencv-python-headless==4.12.0.88'

    def test_another_error_is_not_hidden(self, dev):
        env = FakeEnvironment()
        env.error_of = lambda code: "ModuleNotFoundError: No module named 'cv2'"
        with pytest.raises(dev.environment.InstallError, match='No module named'):
            dev.install.fix_cv2(env)
        assert env.calls == []
