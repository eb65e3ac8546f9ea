"""The demonstration's own part: starting the training, saying what came of it, and what went wrong."""

import json

import pytest
from helpers.toy_training import tool
from rich.console import Console

demo = tool('demo')


def test_losses_and_files_are_the_first_and_the_last_of_all_runs(tmp_path):
    for run, values in (('20260102_000000', [3.0, 2.0]), ('20260103_000000', [1.5, 1.0])):
        folder = tmp_path / run / 'vis_data'
        folder.mkdir(parents=True)
        rows = [*(dict(loss=value, step=step) for step, value in enumerate(values)), dict(step=9)]
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)) + '\n')
    assert demo.losses(tmp_path) == (3.0, 1.0)
    (tmp_path / 'reconstructions').mkdir()
    for epoch in (9, 10):
        (tmp_path / f'epoch_{epoch}.pth').touch()
        (tmp_path / 'reconstructions' / f'epoch_{epoch:04d}.png').touch()
    assert demo.last_checkpoint(tmp_path).name == 'epoch_10.pth'
    assert demo.last_picture(tmp_path).name == 'epoch_0010.png'


def test_failed_training_shows_the_end_of_its_log(tmp_path, monkeypatch):
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'train.py').write_text("import sys\nprint('out of luck')\nsys.exit(3)\n")
    monkeypatch.setattr(demo, 'ROOT', tmp_path)
    with pytest.raises(SystemExit, match=r'out of luck\ndemo_vit failed, exit status 3; see .*train\.log'):
        demo.train('demo_vit', Console(quiet=True))


def test_whole_demonstration(tmp_path, monkeypatch, capsys):
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'train.py').write_text(
        """import json, pathlib, sys
assert sys.argv[1].startswith('configs/selfsup/demo_') and '--resume' in sys.argv
work_dir = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
for folder in ('run/vis_data', 'reconstructions'):
    (work_dir / folder).mkdir(parents=True, exist_ok=True)
(work_dir / 'run/vis_data/scalars.json').write_text(json.dumps(dict(loss=2.0)) + '\\n' + '{"loss": 0.5}')
(work_dir / 'reconstructions/epoch_0030.png').touch()
(work_dir / 'epoch_30.pth').touch()
print('01/01 - mmengine - INFO - Epoch(train) [30][30/30] loss: 0.5')
print('noise')
"""
    )
    monkeypatch.setattr(demo, 'ROOT', tmp_path)
    demo.main()
    printed = capsys.readouterr().out
    assert 'noise' not in printed and '  Epoch(train) [30][30/30] loss: 0.5' in printed
    for name in ('demo_vit', 'demo_resnet'):
        assert f'{name}: loss 2.000 at first, 0.500 at last' in printed
        assert f'work_dirs/{name}/reconstructions/epoch_0030.png' in printed
        assert f'work_dirs/{name}/epoch_30.pth' in printed
    assert 'tools/reconstruct.py work_dirs/demo_resnet/epoch_30.pth' in printed
    assert len(list((tmp_path / 'data/sample_photos').glob('*.jpg'))) == 12
