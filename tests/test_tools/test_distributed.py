"""Several processes: the launch scripts, gloo without GPUs, and the same numbers as one process."""

import json
import os
import stat
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from helpers.toy_training import ROOT, read_log, tool, write_config

from a2mim_mm.checkpoints import load_checkpoint_file

TOOLS = ROOT / 'tools'

PRETRAINING = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['a2mim_mm'], allow_failed_imports=False)
model = dict(
    type='a2mim_mm.A2MIM',
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor', mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], to_rgb=True
    ),
    backbone=dict(
        type='a2mim_mm.A2MIMViT',
        arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48),
        img_size=128,
        patch_size=16,
        out_type='featmap',
    ),
    neck=dict(type='SimMIMLinearDecoder', in_channels=24, encoder_stride=16),
    head=dict(type='a2mim_mm.A2MIMHead'),
    mask=dict(type='a2mim_mm.RandomPatchMask'),
    mask_token=dict(type='a2mim_mm.MaskToken', channels=24, site='layers.0'),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='a2mim_mm.KeyedSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='a2mim_mm.UnlabelledImages',
        data_root='photos',
        pipeline=[
            dict(type='a2mim_mm.LoadImage'),
            dict(type='RandomResizedCrop', scale=128, crop_ratio_range=(0.67, 1.0)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='a2mim_mm.MaskSeed'),
            dict(type='PackInputs', algorithm_keys=('mask_seed', 'unreadable')),
        ],
    ),
)
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.5), clip_grad=dict(max_norm=5.0)
)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=6, by_epoch=False)]
auto_scale_lr = dict(enable=True, base_batch_size=8)
amp_dtype = 'bfloat16'
default_hooks = dict(logger=dict(type='LoggerHook', interval=1), checkpoint=dict(type='CheckpointHook'))
custom_hooks = [
    dict(type='a2mim_mm.ThroughputHook'),
    dict(type='a2mim_mm.UnreadableImagesHook'),
    dict(type='a2mim_mm.ReconstructionHook', count=2),
]
randomness = dict(seed=0)
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
    done = subprocess.run(
        [str(TOOLS / script), *map(str, args)], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def recorder(tmp_path):
    """A program that writes its arguments, one a line, and PYTHONPATH into a file; (folder, read)."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    record = tmp_path / 'record'
    for name in ('srun', 'python'):
        path = folder / name
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" "PYTHONPATH=$PYTHONPATH" > {record}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder, lambda: record.read_text().splitlines()


def test_two_processes_train_as_one_with_the_same_global_batch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'photos').mkdir()
    noise = np.random.default_rng(0)
    for index in range(24):
        photo = cv2.resize(noise.integers(0, 256, (6, 8, 3), dtype=np.uint8), (200, 150))
        cv2.imwrite(f'photos/{index}.png', photo)
    (tmp_path / 'pretrain.py').write_text(PRETRAINING)
    (tmp_path / 'pretrain_2.py').write_text(PRETRAINING.replace('batch_size=8,', 'batch_size=4,', 1))

    status, output = launch('dist_train.sh', 'pretrain_2.py', 2, '--work-dir', 'two', cwd=tmp_path)
    assert status == 0, output[-3000:]
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    tool('train').main(['pretrain.py', '--work-dir', 'one', '--device', 'cpu'])

    one_log, two_log = read_log('one'), read_log('two')
    assert '5.000e-01 = 1.600e+01 * 8 / 256 (1 ranks x 8 images x 1 accumulation)' in one_log
    assert '5.000e-01 = 1.600e+01 * 8 / 256 (2 ranks x 4 images x 1 accumulation)' in two_log
    assert '2 ranks over gloo on the CPU' in two_log and 'float32: there is no GPU' in two_log
    assert '[1][3/3]' in two_log and '[1][4/4]' not in two_log

    one, two = (load_checkpoint_file(f'{name}/epoch_1.pth') for name in ('one', 'two'))
    assert one['state_dict'].keys() == two['state_dict'].keys()
    for name, weight in one['state_dict'].items():
        torch.testing.assert_close(two['state_dict'][name], weight, rtol=1e-4, atol=1e-5, msg=name)
    grids = [cv2.imread(f'{name}/reconstructions/epoch_0001.png') for name in ('one', 'two')]
    assert np.abs(grids[0].astype(int) - grids[1]).max() <= 1


def test_all_ranks_stop_when_one_of_them_sees_too_many_unreadable_images(tmp_path):
    extra = (
        'model["norm"] = dict(type="SyncBN")\n'
        'train_dataloader["dataset"] = dict(type="ToyImages", length=8, unreadable=[1, 5])\n'
        'custom_hooks.append(dict(type="a2mim_mm.UnreadableImagesHook", min_count=1))\n'
    )
    write_config(tmp_path, extra, 'unreadable')
    status, output = launch('dist_train.sh', 'unreadable.py', 2, '--work-dir', 'w', cwd=tmp_path)
    assert status != 0 and output.count('Traceback') == 1  # that of torchrun itself
    reason = '2 of 8 images are unreadable, more than the 1 that are allowed'
    assert f'error: {reason}' in output  # of the rank that is first: torchrun ends the other
    log = read_log(tmp_path / 'w')
    assert reason in log
    assert '1.jpg: truncated' in log and '5.jpg: truncated' in log  # both of rank 1
    assert 'SyncBN became BN (1 places in the config)' in log
    assert '[1][2/2]' in log and not (tmp_path / 'w' / 'epoch_1.pth').exists()


def test_two_processes_evaluate_as_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path, 'train_cfg.update(max_epochs=1)', 'twice')
    tool('train').main([config, '--work-dir', 'w'])
    metrics = tool('test').main([write_config(tmp_path, name='once'), 'w/epoch_1.pth', '--work-dir', 'v'])
    status, output = launch('dist_test.sh', 'twice.py', 'w/epoch_1.pth', 2, '--out', 'two.json', cwd=tmp_path)
    assert status == 0, output[-3000:]
    assert json.loads((tmp_path / 'two.json').read_text()) == pytest.approx(metrics, rel=1e-6)


def test_dist_scripts_pass_the_environment_to_torchrun(tmp_path, recorder):
    folder, record = recorder
    python = dict(PYTHON=str(folder / 'python'))
    launch('dist_train.sh', 'c.py', 4, '--resume', '--work-dir', 'a b', cwd=tmp_path, **python)
    assert record() == [
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc_per_node',
        '4',
        f'{TOOLS}/train.py',
        'c.py',
        '--launcher',
        'pytorch',
        '--resume',
        '--work-dir',
        'a b',
        f'PYTHONPATH={ROOT}:{ROOT}/tests',
    ]
    several = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='1234', **python)
    launch('dist_test.sh', 'c.py', 'x.pth', 8, '--out', 'm.json', cwd=tmp_path, **several)
    assert ' '.join(record()).startswith(
        '-m torch.distributed.run --nnodes 2 --node_rank 1 --master_addr 10.0.0.1 --master_port 1234 '
        f'--nproc_per_node 8 {TOOLS}/test.py c.py x.pth --launcher pytorch --out m.json'
    )


def test_slurm_scripts_ask_for_one_task_a_gpu(tmp_path, recorder):
    folder, record = recorder
    path = dict(PATH=f'{folder}:{os.environ["PATH"]}', PYTHON='py')
    launch('slurm_train.sh', 'part', 'job', 'c.py', '--amp', cwd=tmp_path, **path)
    assert ' '.join(record()).startswith(
        '-p part --job-name=job --gres=gpu:8 --ntasks=8 --ntasks-per-node=8 --cpus-per-task=8 '
        f'--kill-on-bad-exit=1 py -u {TOOLS}/train.py c.py --launcher slurm --amp'
    )
    options = dict(GPUS='4', CPUS_PER_TASK='3', SRUN_ARGS='--qos high --time=1:00', **path)
    launch('slurm_test.sh', 'part', 'job', 'c.py', 'x.pth', '--out', 'm.json', cwd=tmp_path, **options)
    assert ' '.join(record()).startswith(
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
