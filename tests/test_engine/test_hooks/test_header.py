"""The console shows a header, early lines and one learning rate. The rest goes to the log file."""

import re

import pytest
from helpers.toy_training import read_log, tool, write_config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from a2mim_mm.engine.run_tool import run_tool


@HOOKS.register_module()
class FreezeEncoder(Hook):
    def before_run(self, runner):
        for param in runner.model.encoder.parameters():
            param.requires_grad = False


@pytest.fixture
def say(train, capfd):
    """Trains the toy; returns what the console showed."""

    def run(*args):
        capfd.readouterr()
        train(*args)
        return capfd.readouterr().out

    return run


def test_a_header_comes_before_the_first_step_and_the_dump_goes_to_the_file(say, tmp_path):
    """The rate is that of a parameter without a multiplier; the first group here has a tenth of it."""
    shown = say(
        "train_dataloader['dataset']['length'] = 10\ncustom_hooks.append(dict(type='FreezeEncoder'))\n"
        "optim_wrapper['paramwise_cfg'] = dict(custom_keys={'encoder': dict(lr_mult=0.1)})"
    )
    header = shown[: shown.index('Epoch(train)')]
    assert len(header.splitlines()) <= 14
    for words in (
        r'config +.*\.py',
        r'model +ToyModel, 24 parameters, 12 of them trained',
        r'data +10 images',
        r'steps +2 epochs x 5 = 10',
        r'lr +as configured, for a batch of 2 .*; at the last step 0\.0347',
        r'ranks +1 process',
        r'precision +precision as OptimWrapper has it',
        r'start +starting from scratch',
        r'log +.*\.log',
    ):
        assert re.search(rf'^  {words}', header, re.MULTILINE), words
    assert re.search(r'\[1\]\[1/5\]  lr: 4\.0000e-02', shown) and 'base_lr' not in shown
    log = read_log(tmp_path / 'run')
    for dumped in ('System environment', 'Hooks will be executed', 'optim_wrapper = dict'):
        assert dumped in log and dumped not in shown
    assert 'FileClient' not in shown + log and 'OneDL' not in shown + log


def test_a_complete_training_says_so_and_a_test_has_a_header_too(say, tmp_path, capfd):
    assert re.search(r'model +ToyModel, 24 parameters$', say(), re.MULTILINE)
    config = write_config(tmp_path, '', f'{tmp_path.name}_test')
    tool('test').main([config, str(tmp_path / 'run' / 'epoch_2.pth'), '--work-dir', str(tmp_path / 'v')])
    shown = capfd.readouterr().out
    assert re.search(r'^  checkpoint +.*epoch_2\.pth', shown, re.MULTILINE) and 'System env' not in shown
    assert re.search(r'^  data +8 images', shown, re.MULTILINE)
    shown = say('', 'run', '--resume')
    assert 'already complete: epoch 2 of 2 epochs' in shown and 'Epoch(train)' not in shown


def test_first_lines_do_not_wait_for_the_interval(say):
    extra = "default_hooks['logger']['interval'] = 100\ntrain_dataloader['dataset']['length'] = 60\n"
    shown = say(extra + "train_cfg['max_epochs'] = 1")
    assert re.findall(r'\[1\]\[ ?(\d+)/30\]', shown) == ['1', '5', '20', '30']
    assert shown.count('eta: 0:00:') == 4


def test_errors_are_the_last_and_nearly_the_only_words(train, capfd):
    with pytest.raises(SystemExit):
        run_tool(lambda: train("model['width'] = 'wide'", 'run', '--cfg-options', 'start=nowhere'))
    captured = capfd.readouterr()
    assert captured.err.startswith('error: ') and len(captured.out.splitlines()) <= 2
