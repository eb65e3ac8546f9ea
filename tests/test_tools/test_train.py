"""tools/train.py and tools/test.py from the command line's point of view."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from helpers.toy_training import ROOT, read_log, tool, write_config
from mmengine.config import Config

from a2mim_mm.checkpoints import load_checkpoint_file
from a2mim_mm.engine import config, machine
from a2mim_mm.engine.run_tool import run_tool, user_message

train_tool, test_tool = tool('train'), tool('test')
HEADER = "custom_hooks.append(dict(type='InterruptAt', epoch={}, error={!r}))\n"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a tool as its __main__ does; returns its exit status and what it printed to stderr."""
    monkeypatch.chdir(tmp_path)

    def run_main(module, *args):
        capsys.readouterr()
        try:
            run_tool(lambda: module.main([str(arg) for arg in args]))
            status = 0
        except SystemExit as end:
            status = end.code
        return status, capsys.readouterr().err

    return run_main


def weights(path):
    return load_checkpoint_file(path)['state_dict']


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_log_line_says_what_a_person_wants_to_know(run, tmp_path):
    assert run(train_tool, write_config(tmp_path, name='line'))[0] == 0
    log = read_log(tmp_path / 'work_dirs' / 'line')
    line = next(line for line in log.splitlines() if 'Epoch(train) [2][4/4]' in line)
    number = r'(\d+\.\d+)'
    for item in ('eta: 0:00:00', 'lr: 3.4728e-02'):
        assert item in line
    values = {
        name: float(re.search(rf' {name}: {number}', line).group(1))
        for name in ('images_per_s', 'data_wait_percent', 'loss', 'loss_spa', 'loss_freq')
    }
    assert values['images_per_s'] > 0 and 0 <= values['data_wait_percent'] <= 100
    assert math.isclose(values['loss'], values['loss_spa'] + values['loss_freq'], abs_tol=2e-4)
    assert ('memory: ' in line) == torch.cuda.is_available()
    for note in (
        '1 process on',
        'precision as OptimWrapper has it',
        'auto_scale_lr is off',
        'starting from scratch',
    ):
        assert note in log


def test_stopped_training_resumes_where_it_was(run, tmp_path):
    longer = 'train_cfg.update(max_epochs=4)\ntrain_dataloader["sampler"]["shuffle"] = True\n'
    assert run(train_tool, write_config(tmp_path, longer, 'straight'), '--work-dir', 'straight')[0] == 0
    interrupted = write_config(tmp_path, longer + HEADER.format(2, 'KeyboardInterrupt'), 'interrupted')
    status, message = run(train_tool, interrupted, '--work-dir', 'stopped')
    assert status == 130 and message.splitlines()[-1].startswith('interrupted') and '--resume' in message
    assert not (tmp_path / 'stopped' / 'epoch_3.pth').exists()

    resumed = write_config(tmp_path, longer, 'resumed')
    assert run(train_tool, resumed, '--work-dir', 'stopped', '--resume')[0] == 0
    log = read_log(tmp_path / 'stopped')
    after = log[log.index('resumed epoch: 2, iter: 8') :]
    assert re.search(r'resuming from .*epoch_2\.pth', after)
    assert re.findall(r'Epoch\(train\) \[(\d)\]\[1/4\]', after) == ['3', '4']
    straight, stopped = (
        load_checkpoint_file(tmp_path / folder / 'epoch_4.pth') for folder in ('straight', 'stopped')
    )
    assert stopped['meta']['iter'] == straight['meta']['iter'] == 16
    rate = [one['optimizer']['param_groups'][0]['lr'] for one in (straight, stopped)]
    assert rate[0] == rate[1]
    scalar = [one['message_hub']['log_scalars']['train/lr'].data[0] for one in (straight, stopped)]
    assert scalar[0].tolist() == scalar[1].tolist()


def test_resume_finds_the_last_checkpoint_of_a_moved_folder(run, tmp_path):
    assert run(train_tool, write_config(tmp_path, name='before'), '--work-dir', 'old')[0] == 0
    (tmp_path / 'old').rename(tmp_path / 'new')
    config = write_config(tmp_path, 'train_cfg.update(max_epochs=3)', 'after')
    assert run(train_tool, config, '--work-dir', 'new', '--resume', 'auto')[0] == 0
    assert (tmp_path / 'new' / 'epoch_3.pth').exists()
    log = read_log(tmp_path / 'new')
    assert 'resumed epoch: 2' in log and 'needs a new training' not in log

    # Another rate in the config: the checkpoint's is kept, and the log says so.
    config = write_config(
        tmp_path, 'train_cfg.update(max_epochs=4)\noptim_wrapper["optimizer"]["lr"] = 0.5', 'other'
    )
    assert run(train_tool, config, '--work-dir', 'new', '--resume')[0] == 0
    assert 'initial lr 4.000e-02. The initial lr 5.000e-01 of config' in read_log(tmp_path / 'new')


def test_resume_without_a_checkpoint_starts_from_scratch(run, tmp_path):
    assert run(train_tool, write_config(tmp_path, name='fresh'), '--work-dir', 'w', '--resume')[0] == 0
    assert 'nothing to resume from in w, starting from scratch' in read_log(tmp_path / 'w')


def test_resume_refuses_what_it_cannot_continue(run, tmp_path):
    assert run(train_tool, write_config(tmp_path, name='source'), '--work-dir', 'w')[0] == 0
    longer = 'train_cfg.update(max_epochs=3)\n'
    wider = write_config(tmp_path, longer + 'model["width"] = 5', 'wider')
    config = write_config(tmp_path, longer, 'longer')
    checkpoint = tmp_path / 'w' / 'epoch_2.pth'
    torch.save(weights(checkpoint), tmp_path / 'weights.pth')
    (tmp_path / 'cut.pth').write_bytes(checkpoint.read_bytes()[:-300])

    def refusal(*args):
        status, message = run(train_tool, *args)
        assert status == 1 and 'Traceback' not in message
        return message

    assert 'there is no checkpoint at absent.pth' in refusal(config, '--resume', 'absent.pth')
    message = refusal(wider, '--work-dir', 'v', '--resume', checkpoint)
    assert (
        'another model' in message
        and 'of another shape (encoder.weight, encoder.bias, decoder.weight)' in message
    )
    message = refusal(config, '--work-dir', 'v', '--resume', 'weights.pth')
    assert 'has no meta, message_hub, optimizer' in message and '--pretrained weights.pth' in message
    assert 'damaged or cut short' in refusal(config, '--work-dir', 'v', '--resume', 'cut.pth')

    checkpoint.write_bytes(b'')
    assert 'epoch_2.pth is empty' in refusal(config, '--work-dir', 'w', '--resume')
    checkpoint.unlink()
    message = refusal(config, '--work-dir', 'w', '--resume')
    assert 'last_checkpoint' in message and 'which does not exist' in message
    (tmp_path / 'w' / 'last_checkpoint').write_text('')
    assert 'cannot resume' in refusal(config, '--work-dir', 'w', '--resume')


@pytest.mark.parametrize(
    ('extra', 'options', 'words'),
    [
        ('model = dict(', (), ['not valid Python', 'line']),
        ('_base_ = ["./absent.py"]', (), ['cannot be read', 'absent.py']),
        ('', ('--cfg-options', 'modle.width=4'), ["no 'modle'", 'did you mean model']),
        ('', ('--cfg-options', 'model.widht=4'), ["unexpected keyword argument 'widht'"]),
        ('model["type"] = "ToyModle"', (), ['ToyModle is not in the']),
        ('model = None', (), ['cannot be trained: it has no model']),
        (
            'optim_wrapper["type"] = "ApexOptimWrapper"',
            ('--amp',),
            ['--amp and --no-amp', 'ApexOptimWrapper'],
        ),
        ('amp_dtype = "half"', (), ["got 'half'"]),
        ('custom_hooks.append(dict(type="a2mim_mm.ThroughputHook", window=0))', (), ['window', 'got 0']),
        ('custom_hooks.append(dict(type="a2mim_mm.ReconstructionHook", images="absent"))', (), ['absent']),
    ],
)
def test_mistakes_end_in_one_message(run, tmp_path, request, extra, options, words):
    config = write_config(tmp_path, extra, f'mistake_{abs(hash(request.node.name))}')
    status, message = run(train_tool, config, *options)
    assert status == 1 and 'Traceback' not in message
    last = message.strip().splitlines()[-1]
    assert last.startswith('error: ') and all(word in last for word in words)


def test_a_folder_that_holds_a_training_is_not_overwritten(run, tmp_path):
    first, second, third = (write_config(tmp_path, name=f'folder_{number}') for number in range(3))
    assert run(train_tool, first, '--work-dir', 'w')[0] == 0
    before = (tmp_path / 'w' / 'epoch_2.pth').read_bytes()
    status, message = run(train_tool, second, '--work-dir', 'w')
    assert status == 1 and 'there is a training in w already' in message
    assert all(word in message for word in ('--resume', '--overwrite', '--work-dir'))
    assert (tmp_path / 'w' / 'epoch_2.pth').read_bytes() == before
    assert run(train_tool, third, '--work-dir', 'w', '--overwrite')[0] == 0


def test_an_overwritten_training_is_not_resumed(run, tmp_path):
    """One that is stopped before its first checkpoint leaves nothing of the one before to go on from."""
    assert run(train_tool, write_config(tmp_path, name='old'), '--work-dir', 'w')[0] == 0
    stopped = write_config(tmp_path, HEADER.format(0, 'KeyboardInterrupt'), 'stopped_early')
    assert run(train_tool, stopped, '--work-dir', 'w', '--overwrite')[0] == 130
    resumed = write_config(tmp_path, name='resumed_anew')
    assert run(train_tool, resumed, '--work-dir', 'w', '--resume')[0] == 0
    assert 'nothing to resume from in w, starting from scratch' in read_log(tmp_path / 'w')


def test_load_from_is_whole_or_refused(run, tmp_path):
    assert run(train_tool, write_config(tmp_path, name='whole'), '--work-dir', 'w')[0] == 0
    source = tmp_path / 'w' / 'epoch_2.pth'
    fits = write_config(tmp_path, f'load_from = {str(source)!r}', 'fits')
    assert run(train_tool, fits, '--work-dir', 'v')[0] == 0
    wider = write_config(tmp_path, f'load_from = {str(source)!r}\nmodel["width"] = 5', 'wider_from')
    status, message = run(train_tool, wider, '--work-dir', 'u')
    assert status == 1 and 'another model' in message and f'--pretrained {source}' in message
    broken = weights(source)
    broken['encoder.weight'][0] = math.nan
    torch.save(dict(state_dict=broken), tmp_path / 'broken.pth')
    status, message = run(
        train_tool, write_config(tmp_path, 'load_from = "broken.pth"', 'nan'), '--work-dir', 't'
    )
    assert status == 1 and 'not finite: encoder.weight' in message


def test_loaders_without_workers_need_no_other_settings(run, tmp_path):
    extra = 'loader.update(num_workers=1, persistent_workers=True, prefetch_factor=2)\n'
    config = write_config(tmp_path, extra, 'workers')
    assert run(train_tool, config, '--cfg-options', 'train_dataloader.num_workers=0')[0] == 0


@pytest.mark.parametrize(
    'base', ['./a2mim_vit-s.py', 'a2mim_mm::selfsup/a2mim_vit-s.py', '../selfsup/a2mim_r50.py']
)
def test_a_config_elsewhere_is_told_how_to_name_its_base(run, tmp_path, base):
    path = tmp_path / 'mine.py'
    path.write_text(f'_base_ = {base!r}\n')
    status, message = run(train_tool, path)
    assert status == 1 and message.count('\n') == 1
    advice = re.search(r"_base_ = '(.*)'", message)[1]
    path.write_text(f'_base_ = {advice!r}\n')
    assert config.load_config(str(path)).model.type == 'a2mim_mm.A2MIM'


def test_an_error_of_a_worker_is_said_as_if_there_was_none(run, tmp_path):
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'a.jpg').touch()
    loader = dict(
        batch_size=1,
        num_workers=1,
        sampler=dict(type='a2mim_mm.KeyedSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='a2mim_mm.UnlabelledImages',
            data_root=str(tmp_path / 'photos'),
            pipeline=[dict(type='a2mim_mm.LoadImage')],
            max_refetch=0,
        ),
    )
    assert run(train_tool, write_config(tmp_path, name='trained'), '--work-dir', 'w')[0] == 0
    config = write_config(tmp_path, f'test_dataloader = {loader!r}', 'of_worker')
    status, message = run(test_tool, config, tmp_path / 'w' / 'epoch_2.pth')
    assert status == 1 and message.count('\n') == 1 and 'a.jpg: the file is empty' in message


@pytest.mark.parametrize('channels', ['in_channels', 'in_chans'])
def test_a_backbone_for_other_images_is_refused(run, tmp_path, channels):
    pipeline = "train_dataloader['dataset'] = dict(pipeline=[dict(type='a2mim_mm.LoadImage')])\n"
    config = write_config(tmp_path, f"{pipeline}model['backbone'] = dict({channels}=1)", f'grey_{channels}')
    status, message = run(train_tool, config)
    assert status == 1 and 'in_channels is 1' in message and 'leave in_channels out' in message


def test_missing_config(run):
    assert run(train_tool, 'absent.py') == (1, 'error: there is no config file absent.py\n')
    assert run(test_tool, 'absent.py', 'x.pth') == (1, 'error: there is no config file absent.py\n')


def test_missing_detection_is_said(run, tmp_path, monkeypatch):
    path = tmp_path / 'detector.py'
    path.write_text("_base_ = 'mmtrack::_base_/default_runtime.py'\n")
    status, message = run(train_tool, path)  # not of this stack
    assert status == 1 and 'mmtrack' in message and 'make install-test' not in message

    def absent(name):
        raise ModuleNotFoundError(f'No module named {name!r}', name=name)

    monkeypatch.setattr(config.importlib, 'import_module', absent)
    cfg = Config(dict(default_scope='mmseg'))
    status, message = run(SimpleNamespace(main=lambda argv: config.require(cfg, (), 'trained')))
    assert status == 1 and 'mmseg' in message and 'make install-test' in message
    for name in ('mmdet', 'mmcv._ext'):
        message = user_message(_raised(ModuleNotFoundError(f'No module named {name!r}', name=name)))
        assert name in message and 'make install-test' in message


def _raised(error):
    try:
        raise error
    except type(error) as caught:
        return caught


def test_bugs_keep_their_traceback(run, tmp_path):
    config = write_config(tmp_path, HEADER.format(1, 'ZeroDivisionError'), 'bug')
    with pytest.raises(ZeroDivisionError):
        run(train_tool, config)
    cfg = Config(dict(optim_wrapper=dict(), train_dataloader=dict(batch_size=None)))
    with pytest.raises(TypeError) as error:  # in this package, but not by a check
        machine.scale_lr(cfg)
    assert user_message(error.value) is None


def test_amp_and_options_of_other_launchers(run, tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    config = write_config(tmp_path, 'amp_dtype = "bfloat16"\n', 'amp')
    # As `mim train` calls it; below, with --gpus 0.
    assert run(train_tool, config, '--amp', '--launcher', 'none', '--gpus', 1)[0] == 0
    assert 'mixed precision in bfloat16' in read_log(tmp_path / 'work_dirs' / 'amp')
    config = write_config(tmp_path, 'amp_dtype = "bfloat16"\n', 'cpu')
    assert run(train_tool, config, '--device', 'cpu', '--launcher', 'none')[0] == 0
    assert 'float32: there is no GPU' in read_log(tmp_path / 'work_dirs' / 'cpu')


def test_lr_of_the_optimizer_follows_the_rule(run, tmp_path):
    extra = 'auto_scale_lr.update(enable=True)\noptim_wrapper["accumulative_counts"] = 4\n'
    assert run(train_tool, write_config(tmp_path, extra, 'scaled'))[0] == 0
    log = read_log(tmp_path / 'work_dirs' / 'scaled')
    assert '1.250e-03 = 4.000e-02 * 8 / 256 (1 ranks x 2 images x 4 accumulation)' in log
    assert re.search(r'\[1\]\[1/4\]  lr: 1\.2500e-03', log)
    assert 'LR is set based on batch size' not in log  # mmengine's own scaling


def test_evaluation(run, tmp_path):
    train_config = write_config(tmp_path, name='evaluated')
    assert run(train_tool, train_config, '--work-dir', 'w')[0] == 0
    checkpoint = tmp_path / 'w' / 'epoch_2.pth'
    config = write_config(tmp_path, name='evaluation')
    assert run(test_tool, config, checkpoint, '--work-dir', 'v', '--out', 'out/metrics.json')[0] == 0
    metrics = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    assert metrics.keys() == {'error'} and 0 < metrics['error'] < 1
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['metrics.json']

    plain = tmp_path / 'plain.pth'  # weights alone give the same numbers, other weights other ones
    torch.save(weights(checkpoint), plain)
    assert test_tool.main([write_config(tmp_path, name='plain'), str(plain)]) == metrics
    assert (
        test_tool.main([write_config(tmp_path, name='first'), str(tmp_path / 'w' / 'epoch_1.pth')]) != metrics
    )

    wider = write_config(tmp_path, 'model["width"] = 5', 'wider_test')
    status, message = run(test_tool, wider, checkpoint)
    assert status == 1 and 'is the checkpoint of another model than this ToyModel' in message
    torch.save(dict(state_dict={'head.weight': torch.zeros(1)}), plain)
    status, message = run(test_tool, write_config(tmp_path, name='decoy'), plain)
    assert (
        status == 1
        and '4 missing in the file' in message
        and '1 unknown to the model (head.weight)' in message
    )
    status, message = run(
        test_tool, write_config(tmp_path, 'test_dataloader = None', 'untestable'), checkpoint
    )
    assert status == 1 and 'cannot be tested: it has no test_dataloader' in message
    assert run(test_tool, write_config(tmp_path, name='nowhere'), 'absent.pth')[0] == 1


def test_ctrl_c_in_a_terminal(tmp_path):
    """A real SIGINT while training runs: one line, status 130, and a checkpoint to go on from."""
    config = write_config(tmp_path, 'train_cfg.update(max_epochs=100000)')
    env = {
        **os.environ,
        'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'tests')]),
        'OMP_NUM_THREADS': '1',
    }
    command = [sys.executable, str(ROOT / 'tools' / 'train.py'), config, '--work-dir', str(tmp_path / 'w')]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / 'w' / 'last_checkpoint').exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        for _ in range(3):  # one that meets a destructor is lost: a person presses again
            process.send_signal(signal.SIGINT)
            try:
                _, message = process.communicate(timeout=20)
                break
            except subprocess.TimeoutExpired:
                continue
    finally:
        process.kill()
    assert process.returncode == 130
    assert message.strip().splitlines()[-1].startswith('interrupted') and 'Traceback' not in message
