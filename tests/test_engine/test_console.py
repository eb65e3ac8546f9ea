"""What a run says: a header, early lines, one learning rate; the rest is in the log file."""

import re

import pytest
from helpers.toy_training import read_log, tool, write_config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from a2mim_mm.engine.run_tool import run_tool

train, evaluate = tool('train').main, tool('test').main


@HOOKS.register_module()
class FreezeEncoder(Hook):
    def before_run(self, runner):
        for param in runner.model.encoder.parameters():
            param.requires_grad = False


@pytest.fixture
def say(tmp_path, capfd, request):
    """Trains the toy; returns what the console showed."""

    def run(extra='', *args, name='run'):
        config = write_config(tmp_path, extra, f'{tmp_path.name}_{name}')
        capfd.readouterr()
        train([config, '--work-dir', str(tmp_path / 'w'), *args])
        return capfd.readouterr().out

    return run


def test_a_header_comes_before_the_first_step_and_the_dump_goes_to_the_file(say, tmp_path):
    shown = say("train_dataloader['dataset']['length'] = 10")
    header = shown[: shown.index('Epoch(train)')]
    assert len(header.splitlines()) <= 14
    for words in (
        r'config +.*\.py',
        r'model +ToyModel, 24 parameters',
        r'data +10 images',
        r'steps +2 epochs x 5 = 10',
        r'lr +as configured, for a batch of 2 .*; at the last step 0\.0347',
        r'ranks +1 process',
        r'precision +precision as OptimWrapper has it',
        r'start +starting from scratch',
        r'log +.*\.log',
    ):
        assert re.search(rf'^  {words}', header, re.MULTILINE), words
    log = read_log(tmp_path / 'w')
    for dumped in ('System environment', 'Hooks will be executed', 'optim_wrapper = dict'):
        assert dumped in log and dumped not in shown
    assert 'FileClient' not in shown + log and 'OneDL' not in shown + log


def test_a_test_has_a_header_too(say, tmp_path, capfd):
    say()
    config = write_config(tmp_path, '', f'{tmp_path.name}_test')
    evaluate([config, str(tmp_path / 'w' / 'epoch_2.pth'), '--work-dir', str(tmp_path / 'v')])
    shown = capfd.readouterr().out
    assert re.search(r'^  checkpoint +.*epoch_2\.pth', shown, re.MULTILINE) and 'System env' not in shown
    assert re.search(r'^  data +8 images', shown, re.MULTILINE)


def test_first_lines_come_early_whatever_the_interval(say):
    extra = "default_hooks['logger']['interval'] = 100\ntrain_dataloader['dataset']['length'] = 60\n"
    shown = say(extra + "train_cfg['max_epochs'] = 1")
    assert re.findall(r'\[1\]\[ ?(\d+)/30\]', shown) == ['1', '5', '20', '30']
    assert shown.count('eta: 0:00:') == 4


def test_one_lr_is_logged_that_of_a_parameter_without_multiplier(say, tmp_path):
    """The first group here has a tenth of it."""
    keys = "custom_keys={'encoder': dict(lr_mult=0.1)}"
    shown = say(f"optim_wrapper['paramwise_cfg'] = dict({keys})")
    assert re.search(r'\[1\]\[1/4\]  lr: 4\.0000e-02', shown) and 'base_lr' not in shown


def test_a_training_that_is_complete_says_so(say):
    say()
    shown = say('', '--resume', name='again')
    assert 'already complete: epoch 2 of 2 epochs' in shown and 'Epoch(train)' not in shown


def test_errors_are_the_last_and_nearly_the_only_words(tmp_path, capfd, monkeypatch):
    config = write_config(tmp_path, "model['width'] = 'wide'", tmp_path.name)
    with pytest.raises(SystemExit):
        run_tool(lambda: train([config, '--work-dir', str(tmp_path / 'w'), '--cfg-options', 'start=nowhere']))
    captured = capfd.readouterr()
    assert captured.err.startswith('error: ') and len(captured.out.splitlines()) <= 2


def test_header_counts_what_is_trained(say):
    shown = say("custom_hooks.append(dict(type='FreezeEncoder'))")
    assert '24 parameters, 12 of them trained' in shown
