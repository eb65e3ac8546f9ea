"""The log says how fast training is, and how long it waits."""

import pytest

from a2mim_mm.engine.hooks import throughput


def test_all_ranks_and_the_wait_count(runner, batch, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(throughput.time, 'perf_counter', lambda: clock[0])
    monkeypatch.setattr(throughput, 'get_world_size', lambda: 4)
    runner, hook = runner(8), throughput.ThroughputHook(window=2)
    hook.before_train(runner)

    def iterate(wait, work, images):
        clock[0] += wait
        hook.before_train_iter(runner)
        clock[0] += work
        hook.after_train_iter(runner, data_batch=batch(*[None] * images))
        scalars = runner.message_hub.log_scalars
        return scalars['train/images_per_s'].current(), scalars['train/data_wait_percent'].current()

    assert iterate(wait=1, work=3, images=16) == (16 * 4 / 4, 25)
    assert iterate(wait=0, work=4, images=8) == (24 * 4 / 8, 12.5)
    assert iterate(wait=0, work=4, images=8) == (16 * 4 / 8, 0)  # the first one left the window
    clock[0] += 100  # validation
    hook.before_train_epoch(runner)
    assert iterate(wait=0, work=4, images=8) == (8, 0)
    assert len(runner.message_hub.log_scalars['train/images_per_s'].data[0]) == 1
    with pytest.raises(ValueError, match='window must be at least 1, got 0'):
        throughput.ThroughputHook(window=0)
