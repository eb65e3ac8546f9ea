"""Unreadable images are named and counted, and too many of them stop the training."""

import pytest
from helpers.toy_training import read_log

from a2mim_mm.engine.hooks import TooManyUnreadableImagesError, UnreadableImagesHook


def test_images_are_named_and_counted_once(runner, batch):
    runner, hook = runner(20), UnreadableImagesHook(min_count=2)
    hook.after_train_iter(runner, data_batch=batch(None, None))
    assert runner.lines == []
    hook.after_train_iter(runner, data_batch=batch('a.jpg: truncated', None))
    assert len(runner.lines) == 1 and 'a.jpg: truncated' in runner.lines[0]
    assert '1 of 20 so far, training stops beyond 2' in runner.lines[0]
    hook.after_train_iter(runner, data_batch=batch('a.jpg: truncated', 'b.jpg: empty'))
    assert len(runner.lines) == 2 and '2 of 20' in runner.lines[1] and 'a.jpg' not in runner.lines[1]
    with pytest.raises(TooManyUnreadableImagesError, match='3 of 20 images are unreadable, more than the 2'):
        hook.after_train_iter(runner, data_batch=batch('c.jpg: empty', None))
    assert 'c.jpg' in runner.lines[2] and 'max_share=0.001, min_count=2' in runner.lines[3]


@pytest.mark.parametrize(('length', 'limit'), [(100, 10), (20_000, 20)])
def test_the_default_limit_is_a_thousandth_and_at_least_ten(runner, batch, length, limit):
    runner, hook = runner(length), UnreadableImagesHook()
    hook.after_train_iter(runner, data_batch=batch(*[f'{index}: bad' for index in range(limit)]))
    with pytest.raises(TooManyUnreadableImagesError):
        hook.after_train_iter(runner, data_batch=batch('one more'))


@pytest.mark.parametrize(
    'name, value', [('max_share', -0.1), ('max_share', 2), ('min_count', -1), ('interval', 0)]
)
def test_wrong_arguments(name, value):
    with pytest.raises(ValueError, match=f'{name} must .* got {value}'):
        UnreadableImagesHook(**{name: value})


def test_training_stops_with_an_explanation(train, tmp_path):
    with pytest.raises(TooManyUnreadableImagesError, match='2 of 8 images are unreadable, more than the 1'):
        train(
            'custom_hooks.append(dict(type="a2mim_mm.UnreadableImagesHook", min_count=1))\n'
            'train_dataloader["dataset"] = dict(type="ToyImages", length=8, unreadable=[1, 4])'
        )
    log = read_log(tmp_path / 'run')
    assert '1.jpg: truncated' in log and '4.jpg: truncated' in log and 'continue with --resume' in log
    assert '[1][2/4]' in log and '[1][3/4]' not in log
