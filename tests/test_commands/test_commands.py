"""The command a2mim: one trained folder, and every word after it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from a2mim_mm.apis import extract_features, load_backbone
from a2mim_mm.commands import main


@pytest.fixture(scope='module')
def trained(sample_photos, tmp_path_factory):
    """The folder of a finished `a2mim pretrain`, and what it printed."""
    out = tmp_path_factory.mktemp('run') / 'out'
    command = [sys.executable, '-m', 'a2mim_mm', 'pretrain', '--data', str(sample_photos), '--out', str(out)]
    command += ['--backbone', 'timm:mobilenetv4_conv_small_035', '--image-size', '64', '--epochs', '2']
    command += ['--batch-size', '4', '--workers', '0']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.fixture(scope='module')
def labelled(sample_photos, tmp_path_factory):
    """A folder with two classes of three photos each."""
    folder = tmp_path_factory.mktemp('labelled')
    for number, photo in enumerate(sorted(sample_photos.iterdir())[:6]):
        target = folder / 'ab'[number % 2] / photo.name
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(photo)
    return folder


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail; returns its message."""

    def run(*words):
        with pytest.raises(SystemExit) as stopped:
            main([*map(str, words)])
        message = capsys.readouterr().err
        assert stopped.value.code in (1, 2) and 'Traceback' not in message
        return message

    return run


def test_pretrain_says_what_comes_next_and_the_words_work(trained, sample_photos, tmp_path, capsys):
    out, printed = trained
    lines = [line.strip() for line in printed.partition('next:')[2].splitlines() if line.strip()]
    assert [line.split()[1] for line in lines] == ['reconstruct', 'embed', 'export']
    for line in lines[:2]:
        main(line.split()[1:])
    assert (out / 'grid.png').is_file() and (out / 'features.npz').is_file()


def test_features_are_those_of_the_api(trained, sample_photos, tmp_path):
    out, _ = trained
    main(['embed', str(out), '--images', str(sample_photos), '--out', str(tmp_path / 'f.npz')])
    main(['embed', str(out), '--images', str(sample_photos), '--out', str(tmp_path / 'm.npz'), '--maps'])
    pooled, maps = np.load(tmp_path / 'f.npz'), np.load(tmp_path / 'm.npz')
    (expected,) = extract_features(load_backbone(out / 'epoch_2.pth'), sample_photos)
    assert torch.equal(torch.from_numpy(maps['features']), expected)
    assert torch.equal(torch.from_numpy(pooled['features']), expected.mean(dim=(2, 3)))
    assert [*pooled['names']] == [str(path) for path in sorted(sample_photos.iterdir())]


def test_probe_tells_training_images_from_each_other(trained, labelled, tmp_path):
    """Their own nearest neighbour, and a linear classifier of six points in many dimensions, are right."""
    words = ['probe', trained[0], '--train', labelled, '--test', labelled, '--k', 1]
    main([*map(str, words), '--out', str(tmp_path / 'metrics.json')])
    assert json.loads((tmp_path / 'metrics.json').read_text()) == dict(knn=100, linear=100)


def test_wrong_words_are_answered(refused, trained, sample_photos, tmp_path, monkeypatch):
    assert 'did you mean pretrain?' in refused('pretrian')
    assert 'known: pretrain, embed, probe, reconstruct, export' in refused('xyz')
    assert 'invalid size value' in refused('pretrain', '--data', '.', '--out', 'o', '--image-size', 'big')
    assert "epochs must be a positive whole number or 'auto', got 0" in refused(
        'pretrain', '--data', sample_photos, '--out', tmp_path, '--epochs', 0
    )
    assert 'holds no checkpoint' in refused(
        'embed', tmp_path, '--images', sample_photos, '--out', tmp_path / 'f.npz'
    )
    assert 'must end in .npz or .parquet' in refused('embed', 'x', '--images', 'y', '--out', 'f.csv')
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    assert 'pip install pyarrow' in refused(
        'embed', trained[0], '--images', sample_photos, '--out', tmp_path / 'f.parquet'
    )
