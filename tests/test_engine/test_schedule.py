"""Schedules end with their training, and keep to it where epochs change their length."""

import json

import pytest
import torch
from helpers.toy_training import read_log, tool, write_config

from a2mim_mm.checkpoints import load_checkpoint_file

train = tool('train').main
FOUR_EPOCHS = """
train_cfg['max_epochs'] = 4
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.004, begin=1, end=4, by_epoch=True, convert_to_iter_based=True),
]
train_dataloader['dataset']['length'] = 64
"""


def lr_at_half_epochs(work_dir, length):
    """The logged lr in the middle of each epoch, by number of the epoch; of all runs in a folder."""
    rows = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        rows += map(json.loads, path.read_text().splitlines())
    return {row['epoch']: row['lr'] for row in rows if (row['step'] - 1) % length == length // 2}


@pytest.mark.parametrize(
    ('options', 'length'),
    [
        (['train_dataloader.batch_size=1', 'optim_wrapper.accumulative_counts=2'], 64),
        (['train_dataloader.batch_size=4'], 16),
        (['train_dataloader.dataset.length=96'], 48),
    ],
)
@pytest.mark.parametrize('noted', [True, False])
def test_a_resumed_schedule_follows_the_new_length_of_an_epoch(tmp_path, options, length, noted):
    config = write_config(tmp_path, FOUR_EPOCHS, f'{tmp_path.name}_straight')
    train([config, '--work-dir', str(tmp_path / 'straight')])
    expected = lr_at_half_epochs(tmp_path / 'straight', 32)

    interrupted = FOUR_EPOCHS + "custom_hooks.append(dict(type='InterruptAt', epoch=2))"
    config = write_config(tmp_path, interrupted, f'{tmp_path.name}_stopped')
    with pytest.raises(KeyboardInterrupt):
        train([config, '--work-dir', str(tmp_path / 'w')])
    if not noted:  # as written before epochs were measured, or by mmengine alone
        checkpoint = load_checkpoint_file(tmp_path / 'w' / 'epoch_2.pth')
        del checkpoint['meta']['epoch_length'], checkpoint['meta']['batch']
        torch.save(checkpoint, tmp_path / 'w' / 'epoch_2.pth')
    config = write_config(tmp_path, FOUR_EPOCHS, f'{tmp_path.name}_resumed')
    train([config, '--work-dir', str(tmp_path / 'w'), '--resume', '--cfg-options', *options])

    log = read_log(tmp_path / 'w')
    assert f'an epoch now has {length} iterations' in log and 'it had 32 (' in log
    assert 'eta: -' not in log
    end = load_checkpoint_file(tmp_path / 'w' / 'epoch_4.pth')
    assert end['meta']['iter'] == 4 * length
    got = lr_at_half_epochs(tmp_path / 'w', length)
    assert got[3] == pytest.approx(expected[3], rel=0.02) and got[4] == pytest.approx(expected[4], rel=0.02)
    assert end['optimizer']['param_groups'][0]['lr'] == pytest.approx(0.004, rel=0.01)


@pytest.mark.parametrize(
    ('extra', 'words'),
    [
        (FOUR_EPOCHS + "train_cfg['max_epochs'] = 2", ['2 epochs', 'CosineAnnealingLR runs to epoch 4']),
        (FOUR_EPOCHS + "train_cfg['max_epochs'] = 1", ['1 epochs', 'CosineAnnealingLR runs to epoch 4']),
        (
            "param_scheduler = [dict(type='LinearLR', start_factor=0.1, end=9, convert_to_iter_based=True)]",
            ['LinearLR runs to epoch 9', '0.0112, 28 % of the configured 0.04'],
        ),
        (
            "param_scheduler = [dict(type='LinearLR', start_factor=0.1, end=5, convert_to_iter_based=True),"
            "dict(type='CosineAnnealingLR', begin=5, convert_to_iter_based=True)]",
            ['LinearLR runs to epoch 5', 'CosineAnnealingLR runs to epoch 6'],
        ),
        ("param_scheduler = dict(type='MultiStepLR', milestones=[1, 3])", ['MultiStepLR runs to epoch 4']),
        (
            "param_scheduler = [dict(type='PolyLR', eta_min=0.01, begin=0, end=5, by_epoch=False)]",
            ['PolyLR ends at epoch 1.25', '0.01, 25 % of the configured 0.04'],
        ),
        (
            "train_cfg = dict(type='IterBasedTrainLoop', max_iters=9)\n"
            "param_scheduler = [dict(type='PolyLR', eta_min=0.01, begin=0, end=80, by_epoch=False)]",
            ['9 iterations', 'PolyLR runs to iteration 80'],
        ),
        (
            "train_cfg = dict(type='IterBasedTrainLoop', max_iters=9)\n"
            "param_scheduler = [dict(type='PolyLR', begin=20, by_epoch=False)]",
            ['9 iterations', 'PolyLR runs to iteration 21'],
        ),
    ],
)
def test_a_schedule_that_ends_elsewhere_than_training_is_said(tmp_path, extra, words):
    train([write_config(tmp_path, extra, tmp_path.name), '--work-dir', str(tmp_path / 'w')])
    log = read_log(tmp_path / 'w')
    assert 'the schedule does not fit a training of' in log
    assert all(word in log for word in words)


@pytest.mark.parametrize(
    'extra',
    [
        FOUR_EPOCHS,
        "param_scheduler = [dict(type='LinearLR', start_factor=0.1, begin=0, end=3, by_epoch=False),"
        "dict(type='MultiStepLR', milestones=[1])]",
        "train_cfg = dict(type='IterBasedTrainLoop', max_iters=9)\n"
        "param_scheduler = [dict(type='PolyLR', eta_min=0.01, begin=0, end=9, by_epoch=False)]",
        'param_scheduler = None',
        "param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0, convert_to_iter_based=True)]",
    ],
)
def test_a_schedule_that_ends_with_training_is_not(tmp_path, extra):
    train([write_config(tmp_path, extra, tmp_path.name), '--work-dir', str(tmp_path / 'w')])
    assert 'the schedule does not fit' not in read_log(tmp_path / 'w')
