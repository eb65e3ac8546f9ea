"""Command lines are answered at once, and mean what the package means."""

import subprocess
import sys

import pytest
from helpers.toy_training import ROOT, tool, write_config

from a2mim_mm.analysis import interaction, occlusion, patches
from a2mim_mm.convert import TARGETS
from a2mim_mm.engine import distributed
from a2mim_mm.engine.config import load_config

TOOLS = sorted(
    path.relative_to(ROOT / 'tools').with_suffix('').as_posix()
    for path in [*ROOT.glob('tools/*.py'), *ROOT.glob('tools/[ab]*/*.py')]
    if path.stem != 'arguments'
)
# Runs a tool as its own process would, and says which slow packages were imported.
PROBE = """
import runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition('/')[0])
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    print('slow:', *{'torch', 'numpy', 'mmengine'} & sys.modules.keys())
"""


@pytest.mark.parametrize('name', TOOLS)
@pytest.mark.parametrize('argument, status', [('--help', 0), ('--no-such-option', 2)])
def test_help_and_mistakes_wait_for_no_import(name, argument, status):
    command = [sys.executable, '-c', PROBE, str(ROOT / 'tools' / f'{name}.py'), argument]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == status and 'usage: ' in ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1].strip() == 'slow:'


def test_what_tools_offer_is_what_the_package_has():
    assert tool('train').LAUNCHERS == tool('test').LAUNCHERS == distributed.LAUNCHERS
    assert tool('convert_checkpoint').FORMATS == tuple(TARGETS)
    typed = tool('analysis/arguments')
    assert (typed.FILLS, typed.ORDERS) == (patches.FILLS, occlusion.ORDERS)
    assert typed.ORDER_RATIOS == interaction.ORDER_RATIOS


@pytest.mark.parametrize(
    ('option', 'name', 'value'),
    [
        ('optim_wrapper.optimizer.lr=1', 'optim_wrapper.optimizer.lr', 1),
        ('param_scheduler.0.eta_min=0.5', 'param_scheduler', None),
        ('train_dataloader.dataset.type=2024', 'train_dataloader.dataset.type', '2024'),
        ('train_dataloader.dataset.type=a,b', 'train_dataloader.dataset.type', 'a,b'),
        ('train_dataloader.dataset.type=[a,b]', 'train_dataloader.dataset.type', ['a', 'b']),
        ('train_dataloader.dataset.type=None', 'train_dataloader.dataset.type', None),
        ('train_dataloader.dataset.length=[1,2]', 'train_dataloader.dataset.length', [1, 2]),
        ('load_from=a=b.pth', 'load_from', 'a=b.pth'),
        ('test_evaluator=None', 'test_evaluator', None),
    ],
)
def test_an_option_replaces_a_value(tmp_path, option, name, value):
    cfg = load_config(write_config(tmp_path), [option])
    if value is not None:
        for part in name.split('.'):
            cfg = cfg[part]
        assert cfg == value


@pytest.mark.parametrize(
    'option',
    [
        'optim_wrapper.optimizer.lr=abc',
        'optim_wrapper.optimizer.lr=True',
        'param_scheduler.0.T_max=ten',
        'train_cfg.max_epochs=2.5',
        'train_dataloader.batch_size=2.5',
        'auto_scale_lr.enable=yes',
        'optim_wrapper=AdamW',
        'train_cfg=3',
        'optim_wrapper.optimizer.lr',
        'optim_wrapper.optimizer.betas=(0.9,0.99',
    ],
)
def test_an_option_of_another_type_is_refused(tmp_path, option):
    with pytest.raises(ValueError, match='--cfg-options') as error:
        load_config(write_config(tmp_path), [option])
    assert '\n' not in str(error.value)
