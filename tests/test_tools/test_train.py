"""tools/train.py and tools/test.py from the command line's point of view."""

import json
import math
import multiprocessing
import os
import re
import signal
import time
from itertools import count

import pytest
import torch
from helpers.toy_training import START, read_log, tool, train_in_a_terminal, write_config
from mmengine.config import Config

from a2mim_mm.checkpoints import load_checkpoint_file
from a2mim_mm.engine import config, machine
from a2mim_mm.engine.run_tool import user_message

train_tool, test_tool = tool('train'), tool('test')
HOOK = "custom_hooks.append(dict(type='InterruptAt', epoch={}, error={!r}))\n"
LONGER = 'train_cfg.update(max_epochs=3)\n'


@pytest.fixture
def toy(tmp_path):
    """Writes a toy config; each run needs its own name."""
    numbers = count()
    return lambda extra='': write_config(tmp_path, extra, f'{tmp_path.name}_{next(numbers)}')


@pytest.fixture
def train(run, toy):
    """Trains the toy in w; returns exit status and stderr."""
    return lambda extra='', *args: run(train_tool, toy(extra), '--work-dir', 'w', *args)


@pytest.fixture
def refuse(run, toy):
    """Runs a tool that must end in one message; returns it."""

    def refused(extra, *args, module=train_tool):
        status, message = run(module, toy(extra), *args)
        assert status == 1 and 'Traceback' not in message and message.startswith('error: ')
        return message

    return refused


def weights(path):
    return load_checkpoint_file(path)['state_dict']


def test_log_line_and_rate(train):
    """A log line says what a person wants to know; the rate follows the rule."""
    extra = 'auto_scale_lr.update(enable=True)\noptim_wrapper["accumulative_counts"] = 4\n'
    assert train(extra)[0] == 0
    log = read_log('w')
    line = next(line for line in log.splitlines() if 'Epoch(train) [2][4/4]' in line)
    assert 'eta: 0:00:00' in line and ('memory: ' in line) == torch.cuda.is_available()
    values = {
        name: float(re.search(rf' {name}: (\d+\.\d+)', line).group(1))
        for name in ('images_per_s', 'data_wait_percent', 'loss', 'loss_spa', 'loss_freq')
    }
    assert values['images_per_s'] > 0 and 0 <= values['data_wait_percent'] <= 100
    assert math.isclose(values['loss'], values['loss_spa'] + values['loss_freq'], abs_tol=2e-4)
    assert '1.250e-03 = 4.000e-02 * 8 / 256 (1 ranks x 2 images x 4 accumulation)' in log
    assert re.search(r'\[1\]\[1/4\]  lr: 1\.2500e-03', log)
    assert 'LR is set based on batch size' not in log  # mmengine's own scaling
    assert all(note in log for note in ('1 process on', 'precision as OptimWrapper has it', 'from scratch'))


def test_stopped_training_resumes_where_it_was(run, toy, train, tmp_path):
    longer = LONGER + 'train_dataloader["sampler"]["shuffle"] = True\n'
    assert run(train_tool, toy(longer), '--work-dir', 'straight')[0] == 0
    status, message = train(longer + HOOK.format(2, 'KeyboardInterrupt'))
    assert status == 130 and message.splitlines()[-1].startswith('interrupted') and '--resume' in message
    assert not (tmp_path / 'w' / 'epoch_3.pth').exists()

    assert train(longer, '--resume')[0] == 0
    log = read_log('w')
    after = log[log.index('resumed epoch: 2, iter: 8') :]
    assert re.search(r'resuming from .*epoch_2\.pth', after) and 'resuming keeps lr' not in after
    assert re.findall(r'Epoch\(train\) \[(\d)\]\[1/4\]', after) == ['3']
    runs = [load_checkpoint_file(tmp_path / folder / 'epoch_3.pth') for folder in ('straight', 'w')]
    assert runs[0]['meta']['iter'] == runs[1]['meta']['iter'] == 12
    rates = [one['optimizer']['param_groups'][0]['lr'] for one in runs]
    logged = [one['message_hub']['log_scalars']['train/lr'].data[0].tolist() for one in runs]
    assert rates[0] == rates[1] and logged[0] == logged[1]


def test_resume_finds_the_last_checkpoint_of_a_moved_folder(train, finished):
    """Another rate in the config: the checkpoint's is kept, and the log says so."""
    assert train(LONGER + 'optim_wrapper["optimizer"]["lr"] = 0.5', '--resume', 'auto')[0] == 0
    assert (finished / 'epoch_3.pth').exists()
    log = read_log('w')
    assert f'resuming from {finished.relative_to(finished.parent)}/epoch_2.pth' in log
    assert 'initial lr 4.000e-02. The initial lr 5.000e-01 of config' in log


def test_resume_refuses_what_it_cannot_continue(refuse, finished):
    checkpoint = finished / 'epoch_2.pth'
    torch.save(weights(checkpoint), 'weights.pth')
    with open('cut.pth', 'wb') as file:
        file.write(checkpoint.read_bytes()[:-300])

    assert 'there is no checkpoint at absent.pth' in refuse(LONGER, '--resume', 'absent.pth')
    message = refuse(LONGER + 'model["width"] = 5', '--work-dir', 'v', '--resume', checkpoint)
    assert 'another model' in message
    assert 'of another shape (encoder.weight, encoder.bias, decoder.weight)' in message
    message = refuse(LONGER, '--work-dir', 'v', '--resume', 'weights.pth')
    assert 'has no meta, message_hub, optimizer' in message and '--pretrained weights.pth' in message
    assert 'damaged or cut short' in refuse(LONGER, '--work-dir', 'v', '--resume', 'cut.pth')
    (finished / 'last_checkpoint').write_text(str(checkpoint))
    checkpoint.unlink()
    message = refuse(LONGER, '--work-dir', 'w', '--resume')
    assert 'last_checkpoint' in message and 'which does not exist' in message
    (finished / 'last_checkpoint').write_text('')
    assert 'cannot resume' in refuse(LONGER, '--work-dir', 'w', '--resume')


def test_a_folder_that_holds_a_training_is_not_overwritten(train, refuse, finished):
    """With --overwrite, --resume finds nothing of the old training either."""
    before = (finished / 'epoch_2.pth').read_bytes()
    message = refuse('', '--work-dir', 'w')
    assert 'there is a training in w already' in message
    assert all(word in message for word in ('--resume', '--overwrite', '--work-dir'))
    assert (finished / 'epoch_2.pth').read_bytes() == before
    assert train(HOOK.format(0, 'KeyboardInterrupt'), '--overwrite')[0] == 130
    assert train('', '--resume')[0] == 0
    assert 'nothing to resume from in w, starting from scratch' in read_log('w')


def test_load_from_is_whole_or_refused(train, refuse, toy_run):
    source = toy_run / 'epoch_2.pth'
    assert train(f'load_from = {str(source)!r}')[0] == 0
    message = refuse(f'load_from = {str(source)!r}\nmodel["width"] = 5', '--work-dir', 'u')
    assert 'another model' in message and f'--pretrained {source}' in message
    broken = weights(source)
    broken['encoder.weight'][0] = math.nan
    torch.save(dict(state_dict=broken), 'broken.pth')
    assert 'not finite: encoder.weight' in refuse('load_from = "broken.pth"', '--work-dir', 't')


@pytest.mark.parametrize(
    ('extra', 'options', 'words'),
    [
        ('model = dict(', (), ['not valid Python', 'line']),
        ('_base_ = ["./absent.py"]', (), ['cannot be read', 'absent.py']),
        ('', ('--cfg-options', 'modle.width=4'), ["no 'modle'", 'did you mean model']),
        ('', ('--cfg-options', 'loader.batch_size=4'), ["'loader' is a variable", 'train_dataloader']),
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
        (
            "train_dataloader['dataset'] = dict(pipeline=[dict(type='a2mim_mm.LoadImage')])\n"
            "model['backbone'] = dict(in_chans=1)",
            (),
            ['in_channels is 1', 'leave in_channels out'],
        ),
    ],
)
def test_mistakes_end_in_one_message(refuse, extra, options, words):
    last = refuse(extra, *options).strip().splitlines()[-1]
    assert last.startswith('error: ') and all(word in last for word in words)


def test_missing_config(run):
    assert run(train_tool, 'absent.py') == (1, 'error: there is no config file absent.py\n')
    assert run(test_tool, 'absent.py', 'x.pth') == (1, 'error: there is no config file absent.py\n')


@pytest.mark.parametrize('base', ['./a2mim_vit-s.py', 'a2mim_mm::selfsup/a2mim_vit-s.py'])
def test_a_config_elsewhere_is_told_how_to_name_its_base(run, tmp_path, base):
    path = tmp_path / 'mine.py'
    path.write_text(f'_base_ = {base!r}\n')
    status, message = run(train_tool, path)
    assert status == 1 and message.count('\n') == 1
    advice = re.search(r"_base_ = '(.*)'", message)[1]
    path.write_text(f'_base_ = {advice!r}\n')
    assert config.load_config(str(path)).model.type == 'a2mim_mm.A2MIM'


def test_an_error_of_a_worker_is_said_as_if_there_was_none(refuse, toy_run, tmp_path):
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'a.jpg').touch()
    dataset = dict(
        type='a2mim_mm.UnlabelledImages',
        data_root=str(tmp_path / 'photos'),
        pipeline=[dict(type='a2mim_mm.LoadImage')],
        max_refetch=0,
    )
    loader = dict(
        batch_size=1,
        num_workers=1,
        sampler=dict(type='a2mim_mm.KeyedSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
        dataset=dataset,
    )
    message = refuse(f'test_dataloader = {loader!r}', toy_run / 'epoch_2.pth', module=test_tool)
    assert message.count('\n') == 1 and 'a.jpg: the file is empty' in message


def test_a_sampler_without_keys_is_refused(refuse, sample_photos):
    """Its images would have the same crop in every epoch."""
    pipeline = [dict(type='a2mim_mm.LoadImage')]
    dataset = dict(type='a2mim_mm.UnlabelledImages', data_root=str(sample_photos), pipeline=pipeline)
    message = refuse(f'train_dataloader["dataset"] = {dataset!r}')
    assert 'train_dataloader: DefaultSampler' in message and 'a2mim_mm.KeyedSampler' in message


def test_missing_detection_is_said(run, tmp_path, monkeypatch):
    path = tmp_path / 'detector.py'
    path.write_text("_base_ = 'mmtrack::_base_/default_runtime.py'\n")
    status, message = run(train_tool, path)  # not of this stack
    assert status == 1 and 'mmtrack' in message and 'make install-test' not in message

    def absent(name):
        raise ModuleNotFoundError(f'No module named {name!r}', name=name)

    monkeypatch.setattr(config.importlib, 'import_module', absent)
    path.write_text("default_scope = 'mmseg'\n")
    status, message = run(train_tool, path)
    assert status == 1 and 'mmseg' in message and 'make install-test' in message
    for name in ('mmdet', 'mmcv._ext'):
        message = user_message(ModuleNotFoundError(f'No module named {name!r}', name=name))
        assert name in message and 'make install-test' in message


def test_bugs_keep_their_traceback(train):
    with pytest.raises(ZeroDivisionError):
        train(HOOK.format(1, 'ZeroDivisionError'))
    cfg = Config(dict(optim_wrapper=dict(), train_dataloader=dict(batch_size=None)))
    with pytest.raises(TypeError) as error:  # in this package, but not by a check
        machine.scale_lr(cfg)
    assert user_message(error.value) is None


def test_amp_and_options_of_other_launchers(run, toy, monkeypatch):
    """As `mim train` calls it; loaders without workers need no other settings."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    extra = (
        'amp_dtype = "bfloat16"\nloader.update(num_workers=1, persistent_workers=True, prefetch_factor=2)\n'
    )
    workers = ['--cfg-options', 'train_dataloader.num_workers=0', 'train_cfg.max_epochs=1']
    options = ['--launcher', 'none', *workers]
    assert run(train_tool, toy(extra), '--amp', '--gpus', 1, '--work-dir', 'amp', *options)[0] == 0
    assert 'mixed precision in bfloat16' in read_log('amp')
    assert run(train_tool, toy(extra), '--device', 'cpu', '--work-dir', 'cpu', *options)[0] == 0
    assert 'float32: there is no GPU' in read_log('cpu')


def test_evaluation(run, toy, refuse, toy_run, tmp_path):
    checkpoint = toy_run / 'epoch_2.pth'
    assert run(test_tool, toy(), checkpoint, '--work-dir', 'v', '--out', 'out/metrics.json')[0] == 0
    metrics = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    assert metrics.keys() == {'error'} and 0 < metrics['error'] < 1
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['metrics.json']

    torch.save(weights(checkpoint), 'plain.pth')  # weights alone give the same numbers, others do not
    assert test_tool.main([toy(), 'plain.pth']) == metrics
    assert test_tool.main([toy(), str(toy_run / 'epoch_1.pth')]) != metrics

    message = refuse('model["width"] = 5', checkpoint, module=test_tool)
    assert 'is the checkpoint of another model than this ToyModel' in message
    torch.save(dict(state_dict={'head.weight': torch.zeros(1)}), 'plain.pth')
    message = refuse('', 'plain.pth', module=test_tool)
    assert '4 missing in the file' in message and '1 unknown to the model (head.weight)' in message
    message = refuse('test_dataloader = None', checkpoint, module=test_tool)
    assert 'cannot be tested: it has no test_dataloader' in message
    assert 'absent.pth' in refuse('', 'absent.pth', module=test_tool)


def test_ctrl_c_in_a_terminal(toy, tmp_path):
    """A real SIGINT during training ends in one line and status 130, and leaves a checkpoint."""
    argv = [toy('train_cfg.update(max_epochs=5000)'), '--work-dir', str(tmp_path / 'w')]
    process = multiprocessing.get_context(START).Process(
        target=train_in_a_terminal, args=(argv, tmp_path / 'stderr')
    )
    process.start()
    try:
        deadline = time.monotonic() + 240
        while not (tmp_path / 'w' / 'last_checkpoint').exists():
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.1)
        for _ in range(10):  # one that meets a destructor is lost: a person presses again
            os.kill(process.pid, signal.SIGINT)
            process.join(timeout=5)
            if not process.is_alive():
                break
    finally:
        process.kill()
    assert process.exitcode == 130
    message = (tmp_path / 'stderr').read_text()
    assert message.strip().splitlines()[-1].startswith('interrupted') and 'Traceback' not in message
