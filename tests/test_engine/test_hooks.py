"""Pictures, speed and unreadable images, while training."""

import cv2
import numpy as np
import pytest
import torch
from helpers.toy_training import SIZE, read_log, tool, write_config
from mmengine.logging import MessageHub
from mmengine.structures import BaseDataElement

from a2mim_mm.checkpoints import load_checkpoint_file
from a2mim_mm.data.reading import list_images, read_image
from a2mim_mm.drawing import draw_grid
from a2mim_mm.engine.hooks import (
    TooManyUnreadableImagesError,
    UnreadableImagesHook,
    reconstruction,
    throughput,
)
from a2mim_mm.engine.hooks.reconstruction import ReconstructionHook


def train(folder, extra='', name=None):
    """Train the toy; returns its work dir."""
    work_dir = folder / (name or 'run')
    tool('train').main([write_config(folder, extra, name or folder.name), '--work-dir', str(work_dir)])
    return work_dir


def pictures(**options):
    return f'\ncustom_hooks.append(dict(type="a2mim_mm.ReconstructionHook", **{options!r}))\n'


class FakeRunner:
    """What the hooks under test need of a Runner."""

    def __init__(self, length, batch_size=2):
        self.message_hub = MessageHub('fake')
        self.train_dataloader = type('Loader', (), dict(dataset=range(length), batch_size=batch_size))
        self.iter = self.epoch = self.rank = 0
        self.lines = []
        self.logger = self

    def warning(self, line):
        self.lines.append(line)

    def error(self, line):
        self.lines.append(line)


def batch(*notes):
    return dict(data_samples=[BaseDataElement(unreadable=[note] if note else []) for note in notes])


def test_grids_are_drawn_every_interval_and_at_the_end(tmp_path):
    extra = pictures(count=2, interval=2) + (
        'train_cfg.update(max_epochs=3)\n'
        'visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend"), '
        'dict(type="TensorboardVisBackend")])'
    )
    work_dir = train(tmp_path, extra)
    grids = sorted(path.name for path in (work_dir / 'reconstructions').iterdir())
    assert grids == ['epoch_0002.png', 'epoch_0003.png']
    shown = sorted(path.name for path in work_dir.glob('*/vis_data/vis_image/*'))
    assert shown == ['reconstructions_12.png', 'reconstructions_8.png']
    events = b''.join(path.read_bytes() for path in work_dir.glob('*/vis_data/events.out*'))
    assert events.count(b'reconstructions') == 2 and events.count(b'\x89PNG') == 2

    first, last = (cv2.imread(str(work_dir / 'reconstructions' / name)) for name in grids)
    empty = draw_grid({name: torch.zeros(2, 3, SIZE, SIZE) for name in 'abcd'}, caption='c')
    assert first.shape == last.shape == empty.shape
    original_and_masked = slice(22, -22), slice(0, 2 * (SIZE + 2))  # between title and caption
    assert np.array_equal(first[original_and_masked], last[original_and_masked])
    assert not np.array_equal(first[22:-22], last[22:-22])


def test_originals_are_training_images_from_end_to_end_in_rgb(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        reconstruction,
        'draw_grid',
        lambda columns, **_: seen.append(columns) or np.zeros((4, 4, 3), np.uint8),
    )
    train(tmp_path, pictures(count=3))
    assert len(seen) == 2
    bgr_33hw = torch.stack(
        [torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(i)) for i in (0, 4, 7)]
    )
    assert torch.allclose(seen[0]['original'].cpu(), bgr_33hw[:, [2, 1, 0]] / 255)
    assert torch.equal(seen[0]['masked'], seen[1]['masked'])
    assert not torch.equal(seen[0]['prediction'], seen[1]['prediction'])


def test_drawing_does_not_change_the_training(tmp_path):
    weights = [
        load_checkpoint_file(train(tmp_path, extra, name) / 'epoch_2.pth')['state_dict']
        for name, extra in (('plain', ''), ('drawn', pictures(count=2)))
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert (tmp_path / 'drawn' / 'reconstructions' / 'epoch_0001.png').exists()


def test_pictures_of_a_folder(tmp_path):
    folder = tmp_path / 'images' / 'nested'
    folder.mkdir(parents=True)
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = (0, 0, 200)  # BGR: red in the middle, which the centre crop keeps
    cv2.imwrite(str(folder / 'a.png'), image)
    assert list_images(tmp_path / 'images') == list_images([folder / 'a.png']) == [folder / 'a.png']
    for size_hw in ((20, 20), (10, 10), (60, 40)):
        crop = read_image(folder / 'a.png', size_hw)
        assert crop.shape == (3, *size_hw)
        middle = crop[:, 2:-2, 2:-2]  # at the edges antialiasing mixes in what is beside the red
        assert torch.allclose(middle.mean(dim=(1, 2)), torch.tensor([200 / 255, 0, 0]), atol=0.01)
    work_dir = train(tmp_path, pictures(images=str(tmp_path / 'images'), interval=5))
    assert (work_dir / 'reconstructions' / 'epoch_0002.png').exists()


def test_reconstruction_refuses_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match='count must be at least 1, got 0'):
        ReconstructionHook(count=0)
    with pytest.raises(ValueError, match='interval must be at least 1, got -1'):
        ReconstructionHook(interval=-1)
    with pytest.raises(FileNotFoundError, match='not found: .*absent.png'):
        ReconstructionHook(images=[str(tmp_path / 'absent.png')])
    with pytest.raises(FileNotFoundError, match='no image'):
        ReconstructionHook(images=str(tmp_path))
    runner = FakeRunner(8)
    runner.model = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match='needs an A2MIM, not a Linear'):
        ReconstructionHook().before_train(runner)


def test_throughput_counts_all_ranks_and_the_wait(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(throughput.time, 'perf_counter', lambda: clock[0])
    monkeypatch.setattr(throughput, 'get_world_size', lambda: 4)
    runner, hook = FakeRunner(8), throughput.ThroughputHook(window=2)
    hook.before_train(runner)

    def iterate(wait, work, images):
        clock[0] += wait
        hook.before_train_iter(runner, 0)
        clock[0] += work
        hook.after_train_iter(runner, 0, batch(*[None] * images))
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


def test_unreadable_images_are_named_and_counted_once():
    runner, hook = FakeRunner(20), UnreadableImagesHook(min_count=2)
    hook.after_train_iter(runner, 0, batch(None, None))
    assert runner.lines == []
    hook.after_train_iter(runner, 1, batch('a.jpg: truncated', None))
    assert len(runner.lines) == 1 and 'a.jpg: truncated' in runner.lines[0]
    assert '1 of 20 so far, training stops beyond 2' in runner.lines[0]
    hook.after_train_iter(runner, 2, batch('a.jpg: truncated', 'b.jpg: empty'))
    assert len(runner.lines) == 2 and '2 of 20' in runner.lines[1] and 'a.jpg' not in runner.lines[1]
    with pytest.raises(TooManyUnreadableImagesError, match='3 of 20 images are unreadable, more than the 2'):
        hook.after_train_iter(runner, 3, batch('c.jpg: empty', None))
    assert 'c.jpg' in runner.lines[2] and 'max_share=0.001, min_count=2' in runner.lines[3]


@pytest.mark.parametrize(('length', 'limit'), [(100, 10), (20_000, 20)])
def test_the_default_limit_is_a_thousandth_and_at_least_ten(length, limit):
    runner, hook = FakeRunner(length), UnreadableImagesHook()
    hook.after_train_iter(runner, 0, batch(*[f'{index}: bad' for index in range(limit)]))
    with pytest.raises(TooManyUnreadableImagesError):
        hook.after_train_iter(runner, 0, batch('one more'))


def test_unreadable_hook_refuses_wrong_arguments():
    for options in (dict(max_share=-0.1), dict(max_share=2), dict(min_count=-1), dict(interval=0)):
        ((name, value),) = options.items()
        with pytest.raises(ValueError, match=f'{name} must .* got {value}'):
            UnreadableImagesHook(**options)


def test_training_stops_with_an_explanation(tmp_path):
    extra = (
        'custom_hooks.append(dict(type="a2mim_mm.UnreadableImagesHook", min_count=1))\n'
        'train_dataloader["dataset"] = dict(type="ToyImages", length=8, unreadable=[1, 4])'
    )
    with pytest.raises(TooManyUnreadableImagesError, match='2 of 8 images are unreadable, more than the 1'):
        train(tmp_path, extra)
    log = read_log(tmp_path / 'run')
    assert '1.jpg: truncated' in log and '4.jpg: truncated' in log and 'go on with --resume' in log
    assert '[1][2/4]' in log and '[1][3/4]' not in log
