"""Pictures of the progress show the same images each time, and do not change the training."""

import cv2
import numpy as np
import pytest
import torch
from helpers.toy_training import SIZE

from a2mim_mm.checkpoints import load_checkpoint_file
from a2mim_mm.drawing import draw_grid
from a2mim_mm.engine.hooks import reconstruction
from a2mim_mm.engine.hooks.reconstruction import ReconstructionHook


def pictures(**options):
    return f'\ncustom_hooks.append(dict(type="a2mim_mm.ReconstructionHook", **{options!r}))\n'


def test_grids_are_drawn_every_interval_and_at_the_end(train):
    work_dir = train(
        pictures(count=2, interval=2) + 'train_cfg.update(max_epochs=3)\n'
        'visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend"), '
        'dict(type="TensorboardVisBackend")])'
    )
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


def test_originals_are_training_images_from_end_to_end_in_rgb(train, monkeypatch):
    """Drawing does not change the training, and the last epoch is drawn once."""
    seen = []

    def keep(columns, **_):
        seen.append(columns)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(reconstruction, 'draw_grid', keep)
    plain, drawn = train('', 'plain'), train(pictures(count=3), 'drawn')
    assert len(seen) == 2
    bgr_33hw = torch.stack(
        [torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(i)) for i in (0, 4, 7)]
    )
    assert torch.allclose(seen[0]['original'].cpu(), bgr_33hw[:, [2, 1, 0]] / 255)
    assert torch.equal(seen[0]['masked'], seen[1]['masked'])
    assert not torch.equal(seen[0]['prediction'], seen[1]['prediction'])
    weights = [load_checkpoint_file(folder / 'epoch_2.pth')['state_dict'] for folder in (plain, drawn)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_pictures_of_a_folder(train, tmp_path):
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images' / 'a.png'), np.full((20, 40, 3), (0, 0, 200), np.uint8))
    work_dir = train(pictures(images=str(tmp_path / 'images'), interval=5))
    grid = cv2.imread(str(work_dir / 'reconstructions' / 'epoch_0002.png'))
    assert (grid == (0, 0, 200)).all(axis=-1).sum() >= SIZE * SIZE  # BGR: red


def test_wrong_arguments(runner, tmp_path):
    with pytest.raises(ValueError, match='count must be at least 1, got 0'):
        ReconstructionHook(count=0)
    with pytest.raises(ValueError, match='interval must be at least 1, got -1'):
        ReconstructionHook(interval=-1)
    with pytest.raises(FileNotFoundError, match='not found: .*absent.png'):
        ReconstructionHook(images=[str(tmp_path / 'absent.png')])
    runner = runner(8)
    runner.model = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match='needs an A2MIM, not a Linear'):
        ReconstructionHook().before_train(runner)
