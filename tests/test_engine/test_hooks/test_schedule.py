"""A schedule ends with its training, and follows it if the length of an epoch changes."""

import json
import shutil

import pytest
import torch
from helpers.toy_training import read_log, tool, write_config

from a2mim_mm.checkpoints import load_checkpoint_file

FOUR_EPOCHS = """
train_cfg['max_epochs'] = 4
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.004, begin=1, end=4, by_epoch=True, convert_to_iter_based=True),
]
train_dataloader['dataset']['length'] = 32
"""


def lr_at_half_epochs(work_dir, length):
    """The logged lr in the middle of each epoch, by number of the epoch; of all runs in a folder."""
    rows = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        rows += map(json.loads, path.read_text().splitlines())
    return {row['epoch']: row['lr'] for row in rows if (row['step'] - 1) % length == length // 2}


@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
    """A training that was stopped after two of four epochs, and the lr of one that was not."""
    folder = tmp_path_factory.mktemp('schedule')
    tool('train').main(
        [write_config(folder, FOUR_EPOCHS, 'straight'), '--work-dir', str(folder / 'straight')]
    )
    interrupted = FOUR_EPOCHS + "custom_hooks.append(dict(type='InterruptAt', epoch=2))"
    with pytest.raises(KeyboardInterrupt):
        tool('train').main([write_config(folder, interrupted, 'stopped'), '--work-dir', str(folder / 'w')])
    return folder / 'w', lr_at_half_epochs(folder / 'straight', 16)


@pytest.mark.parametrize(
    ('options', 'length', 'noted'),
    [
        (['train_dataloader.batch_size=1', 'optim_wrapper.accumulative_counts=2'], 32, True),
        (['train_dataloader.batch_size=4'], 8, True),
        (['train_dataloader.batch_size=4'], 8, False),
        (['train_dataloader.dataset.length=48'], 24, True),
    ],
)
def test_a_resumed_schedule_follows_the_new_length_of_an_epoch(
    stopped, train, tmp_path, options, length, noted
):
    folder, expected = stopped
    shutil.copytree(folder, tmp_path / 'run')
    path = tmp_path / 'run' / 'epoch_2.pth'
    if not noted:  # as written before epochs were measured, or by mmengine alone
        checkpoint = load_checkpoint_file(path)
        del checkpoint['meta']['epoch_length'], checkpoint['meta']['batch']
        torch.save(checkpoint, path)
    train(FOUR_EPOCHS, 'run', '--resume', '--cfg-options', *options)

    log = read_log(tmp_path / 'run')
    assert f'an epoch now has {length} iterations' in log and 'it had 16 (' in log
    assert 'eta: -' not in log
    end = load_checkpoint_file(tmp_path / 'run' / 'epoch_4.pth')
    assert end['meta']['iter'] == 4 * length
    got = lr_at_half_epochs(tmp_path / 'run', length)
    assert got[3] == pytest.approx(expected[3], rel=0.02) and got[4] == pytest.approx(expected[4], rel=0.02)
    assert end['optimizer']['param_groups'][0]['lr'] == pytest.approx(0.004, rel=0.05)


ITERATIONS = "train_cfg = dict(type='IterBasedTrainLoop', max_iters=9)\n"
POLY = "param_scheduler = [dict(type='PolyLR', eta_min=0.01, begin=0, end={}, by_epoch=False)]"


@pytest.mark.parametrize(
    ('extra', 'words'),
    [
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
        (POLY.format(5), ['PolyLR ends at epoch 1.25', '0.01, 25 % of the configured 0.04']),
        (ITERATIONS + POLY.format(80), ['9 iterations', 'PolyLR runs to iteration 80']),
        (
            ITERATIONS + "param_scheduler = [dict(type='PolyLR', begin=20, by_epoch=False)]",
            ['9 iterations', 'PolyLR runs to iteration 21'],
        ),
        (FOUR_EPOCHS, None),
        (
            "param_scheduler = [dict(type='LinearLR', start_factor=0.1, begin=0, end=3, by_epoch=False),"
            "dict(type='MultiStepLR', milestones=[1])]",
            None,
        ),
        (ITERATIONS + POLY.format(9), None),
        ('param_scheduler = None', None),
        ("param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0, convert_to_iter_based=True)]", None),
    ],
)
def test_a_schedule_that_ends_elsewhere_than_training_is_said(train, extra, words):
    length = 18 if extra.startswith(ITERATIONS) else 8  # mmengine waits 2 s when it restarts a loader
    extra += f"\ntrain_dataloader['dataset']['length'] = {length}"
    log = read_log(train(extra))
    assert ('the schedule does not fit a training of' in log) == bool(words)
    assert all(word in log for word in words or ())
