"""Several processes: the launch scripts, gloo without GPUs, and the same numbers as one process."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from helpers import rank_runs
from helpers.toy_training import ROOT, START, read_log, tool, write_config
from helpers.toy_transfer import RESNET, classification, draw_photos, pretraining, write_settings

from a2mim_mm.checkpoints import load_checkpoint_file

TOOLS = ROOT / 'tools'
UNREADABLE = """
model["norm"] = dict(type="SyncBN")
train_dataloader["dataset"] = dict(type="ToyImages", length=8, unreadable=[1, 5])
custom_hooks.append(dict(type="a2mim_mm.UnreadableImagesHook", min_count=1))
"""


def launch(script, *args, cwd, **env):
    """Run a launch script on the CPU; returns its exit status and what it printed."""
    env = {
        **os.environ,
        'PYTHON': sys.executable,
        'PYTHONPATH': str(ROOT / 'tests'),
        'CUDA_VISIBLE_DEVICES': '',
        'OMP_NUM_THREADS': '1',
        **env,
    }
    command = [str(TOOLS / script), *map(str, args)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def write_pretraining(folder, name, batch_size):
    """Three steps of A2MIM with global batches of 8."""
    settings = pretraining('vit', folder / 'photos')
    settings['train_dataloader']['batch_size'] = batch_size
    settings['optim_wrapper'].update(optimizer=dict(type='SGD', lr=0.5), clip_grad=dict(max_norm=5.0))
    hooks = [dict(type='a2mim_mm.ReconstructionHook', count=2), dict(type='a2mim_mm.UnreadableImagesHook')]
    settings.update(
        param_scheduler=[dict(type='CosineAnnealingLR', T_max=6, by_epoch=False)],
        auto_scale_lr=dict(enable=True, base_batch_size=8),
        amp_dtype='bfloat16',
        custom_hooks=hooks if batch_size == 8 else [*hooks, dict(type='KeepEnd')],
    )
    return str(write_settings(folder, name, settings))


@pytest.fixture(scope='module')
def ranks(tmp_path_factory, toy_run, pretrained):
    """The folder in which two ranks ran several tools, and how each of these ended.

    The value of the last one is what both printed. Of the others, it is the errors of both.
    """
    folder = tmp_path_factory.mktemp('ranks')
    (folder / 'photos').mkdir()
    draw_photos(folder / 'photos', count=24)
    classifier = str(write_settings(folder, 'classifier', classification(RESNET)))
    broken = write_config(folder, 'custom_hooks.append(dict(type="BreakRank"))\n', 'broken')
    runs = dict(
        two=['train', write_pretraining(folder, 'two', batch_size=4)],
        start=['train', classifier, '--pretrained', str(pretrained['resnet'])],
        broken=['train', broken],
        tested=[
            'test',
            write_config(folder, name='tested'),
            str(toy_run / 'epoch_2.pth'),
            '--out',
            'two.json',
        ],
        unreadable=['train', write_config(folder, UNREADABLE, 'unreadable')],
    )
    commands = [[*command, '--work-dir', name] for name, command in runs.items()]
    with pytest.raises(torch.multiprocessing.ProcessExitedException, match='exit code 1'):
        torch.multiprocessing.start_processes(
            rank_runs.run, (str(folder), commands), nprocs=2, start_method=START
        )
    errors = [json.loads((folder / f'errors_{rank}.json').read_text()) for rank in range(2)]
    output = ''.join((folder / f'output_{rank}.txt').read_text() for rank in range(2))
    return folder, dict(zip(runs, [*zip(*errors, strict=True), output], strict=True))


def test_two_ranks_train_as_one_process_with_the_same_global_batch(ranks, tmp_path, monkeypatch):
    folder, errors = ranks
    assert errors['two'] == (None, None)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    config = write_pretraining(folder, 'one', batch_size=8)
    tool('train').main([config, '--work-dir', str(folder / 'one'), '--device', 'cpu'])

    one_log, two_log = read_log(folder / 'one'), read_log(folder / 'two')
    assert '5.000e-01 = 1.600e+01 * 8 / 256 (1 ranks x 8 images x 1 accumulation)' in one_log
    assert '5.000e-01 = 1.600e+01 * 8 / 256 (2 ranks x 4 images x 1 accumulation)' in two_log
    assert '2 ranks over gloo on the CPU' in two_log and 'float32: there is no GPU' in two_log
    assert '[1][3/3]' in two_log and '[1][4/4]' not in two_log

    one, two = (load_checkpoint_file(folder / name / 'epoch_1.pth')['state_dict'] for name in ('one', 'two'))
    ends = [torch.load(folder / 'two' / f'end_{rank}.pth') for rank in range(2)]
    assert one.keys() == two.keys() == ends[0].keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=1e-5, msg=name)
        assert torch.equal(ends[0][name], ends[1][name]) and torch.equal(ends[0][name], two[name])
    grids = [cv2.imread(str(folder / name / 'reconstructions/epoch_0001.png')) for name in ('one', 'two')]
    assert np.abs(grids[0].astype(int) - grids[1]).max() <= 1

    # One process continues where two ranks stopped. Its epochs have twice the iterations.
    options = ['train_dataloader.batch_size=4', 'train_cfg.max_epochs=2']
    config = write_pretraining(folder, 'resumed', batch_size=8)
    tool('train').main([config, '--work-dir', str(folder / 'two'), '--resume', '--cfg-options', *options])
    log = read_log(folder / 'two')
    assert (
        'an epoch now has 6 iterations (1 ranks x 4 images' in log and 'it had 3 (2 ranks x 4 images' in log
    )
    assert load_checkpoint_file(folder / 'two' / 'epoch_2.pth')['meta']['iter'] == 12


def test_all_ranks_start_from_a_pretraining(ranks, pretrained):
    folder, errors = ranks
    assert errors['start'] == (None, None)
    source = load_checkpoint_file(pretrained['resnet'])['state_dict']
    starts = [torch.load(folder / 'start' / f'start_0_{rank}.pth') for rank in range(2)]
    assert all(torch.equal(value, starts[1][name]) for name, value in starts[0].items())
    names = [name for name in starts[1] if name.startswith('backbone.')]
    assert names and all(torch.equal(starts[1][name], source[name]) for name in names)


def test_all_ranks_stop_when_the_loss_of_one_is_not_finite(ranks):
    folder, errors = ranks
    for error, words in zip(errors['broken'], ('the gradients of', 'the loss is not finite'), strict=True):
        assert error.startswith('NonFiniteError: training stopped in iteration 3 of') and words in error
    assert [path.name for path in (folder / 'broken').glob('*.pth')] == ['epoch_1.pth']


def test_two_ranks_evaluate_as_one_process(ranks, toy_run):
    folder, errors = ranks
    assert errors['tested'] == (None, None)
    config = write_config(folder, name='tested_once')
    metrics = tool('test').main([config, str(toy_run / 'epoch_2.pth'), '--work-dir', str(folder / 'v')])
    assert json.loads((folder / 'two.json').read_text()) == pytest.approx(metrics, rel=1e-6)


def check_unreadable(work_dir, output):
    reason = '2 of 8 images are unreadable, more than the 1 that are allowed'
    assert f'error: {reason}' in output  # of the rank that is first: its end ends the other
    log = read_log(work_dir)
    assert reason in log
    assert '1.jpg: truncated' in log and '5.jpg: truncated' in log  # both of rank 1
    assert 'SyncBN became BN (1 places in the config)' in log
    assert '[1][2/2]' in log and not (work_dir / 'epoch_1.pth').exists()


def test_all_ranks_stop_when_one_sees_too_many_unreadable_images(ranks):
    folder, ends = ranks
    check_unreadable(folder / 'unreadable', ends['unreadable'])


@pytest.mark.slow
def test_dist_train_starts_two_ranks_that_stop_together(tmp_path):
    write_config(tmp_path, UNREADABLE, 'unreadable')
    status, output = launch('dist_train.sh', 'unreadable.py', 2, '--work-dir', 'w', cwd=tmp_path)
    assert status != 0 and output.count('Traceback') == 1  # that of torchrun itself
    check_unreadable(tmp_path / 'w', output)


@pytest.fixture
def started(tmp_path):
    """What a launch script starts in place of python and srun: the arguments, and PYTHONPATH."""
    record = tmp_path / 'record'
    for name in ('srun', 'python'):
        (tmp_path / name).write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" "PYTHONPATH=$PYTHONPATH" > {record}\n')
        (tmp_path / name).chmod(0o755)

    def run(*command, **env):
        launch(*command, cwd=tmp_path, PATH=f'{tmp_path}:{os.environ["PATH"]}', **env)
        return record.read_text().splitlines()

    return run


def test_dist_scripts_pass_the_environment_to_torchrun(started):
    arguments = started('dist_train.sh', 'c.py', 4, '--resume', '--work-dir', 'a b', PYTHON='python')
    expected = '-m torch.distributed.run --standalone --nproc_per_node 4'.split()
    expected += f'{TOOLS}/train.py c.py --launcher pytorch --resume --work-dir'.split()
    assert arguments == [*expected, 'a b', f'PYTHONPATH={ROOT}:{ROOT}/tests']
    several = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='1234', PYTHON='python')
    arguments = started('dist_test.sh', 'c.py', 'x.pth', 8, '--out', 'm.json', **several)
    assert ' '.join(arguments).startswith(
        '-m torch.distributed.run --nnodes 2 --node_rank 1 --master_addr 10.0.0.1 --master_port 1234 '
        f'--nproc_per_node 8 {TOOLS}/test.py c.py x.pth --launcher pytorch --out m.json'
    )


def test_slurm_scripts_ask_for_one_task_a_gpu(started):
    arguments = started('slurm_train.sh', 'part', 'job', 'c.py', '--amp', PYTHON='py')
    assert ' '.join(arguments).startswith(
        '-p part --job-name=job --gres=gpu:8 --ntasks=8 --ntasks-per-node=8 --cpus-per-task=8 '
        f'--kill-on-bad-exit=1 py -u {TOOLS}/train.py c.py --launcher slurm --amp'
    )
    options = dict(GPUS='4', CPUS_PER_TASK='3', SRUN_ARGS='--qos high --time=1:00', PYTHON='py')
    arguments = started('slurm_test.sh', 'part', 'job', 'c.py', 'x.pth', '--out', 'm.json', **options)
    assert ' '.join(arguments).startswith(
        '-p part --job-name=job --gres=gpu:4 --ntasks=4 --ntasks-per-node=4 --cpus-per-task=3 '
        f'--kill-on-bad-exit=1 --qos high --time=1:00 py -u {TOOLS}/test.py c.py x.pth --launcher slurm '
        '--out m.json'
    )


@pytest.mark.parametrize(
    ('script', 'args'),
    [
        ('dist_train.sh', ['c.py']),
        ('dist_train.sh', ['c.py', '--work-dir']),
        ('dist_train.sh', ['c.py', '0']),
        ('dist_test.sh', ['c.py', '2']),
        ('slurm_train.sh', ['part', 'job']),
        ('slurm_test.sh', ['part', 'job', 'c.py']),
    ],
)
def test_scripts_say_how_they_are_used(tmp_path, script, args):
    status, output = launch(script, *args, cwd=tmp_path)
    assert status == 2 and 'usage: ' in output and script in output
