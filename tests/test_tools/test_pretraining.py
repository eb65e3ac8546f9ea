"""Pre-training, resuming, testing and drawing, by the shipped demonstration configs on the sample photos."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from helpers.toy_training import read_log, tool

from a2mim_mm.apis import load_backbone
from a2mim_mm.engine.run_tool import run_tool

train, test, reconstruct, browse = tool('train'), tool('test'), tool('reconstruct'), tool('browse_data')
NAMES = ('demo_vit', 'demo_resnet')
ONE = pytest.mark.parametrize('trained', NAMES[:1], indirect=True)  # where the architecture does not matter


def short(photos, epochs):
    """Options that cut a demonstration to two steps an epoch."""
    return [
        '--cfg-options',
        f'train_cfg.max_epochs={epochs}',
        f'train_dataloader.dataset.data_root={photos}',
        f'test_dataloader.dataset.data_root={photos}',
        f'custom_hooks.2.images={photos}',
        'train_dataloader.dataset.repeats=1',
        'train_dataloader.batch_size=6',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
    ]


@pytest.fixture(scope='module', params=NAMES)
def trained(request, root, sample_photos, tmp_path_factory):
    """Config, work directory after one epoch, and photos."""
    config = str(root / 'configs' / 'selfsup' / f'{request.param}.py')
    work_dir = tmp_path_factory.mktemp(request.param)
    train.main([config, '--work-dir', str(work_dir), *short(sample_photos, 1)])
    return config, work_dir, sample_photos


def test_first_epoch_leaves_log_checkpoint_and_picture(trained):
    _, work_dir, _ = trained
    log = read_log(work_dir)
    assert '3.750e-04 = 1.600e-02 * 6 / 256 (1 ranks x 6 images x 1 accumulation)' in log
    assert 'float32: there is no GPU' in log or torch.cuda.is_available()
    assert (work_dir / 'epoch_1.pth').is_file()
    picture = cv2.imread(str(work_dir / 'reconstructions' / 'epoch_0001.png'))
    assert picture.shape[1] > 4 * 64  # four columns


def test_the_backbone_lies_beside_the_checkpoint(trained):
    _, work_dir, _ = trained
    (alone, whole) = (load_backbone(work_dir / name) for name in ('backbone.safetensors', 'epoch_1.pth'))
    assert alone.pretrained_cfg == whole.pretrained_cfg and alone.pretrained_cfg['input_size'] == (3, 64, 64)
    expected = whole.state_dict()
    assert {*alone.state_dict()} == {*expected}
    assert all(torch.equal(value, expected[name]) for name, value in alone.state_dict().items())
    assert f'backbone = load_backbone({str(work_dir / "backbone.safetensors")!r})' in read_log(work_dir)


def test_a_network_of_the_zoo_at_another_size(root, sample_photos, tmp_path):
    """Settings by name; what was found is in the log; the checkpoint says how the network is built."""
    pytest.importorskip('timm')
    named = ['image_size=64', 'mask_patch_size=16', 'epochs=1', 'batch_size=6']
    data = [f'{part}_dataloader.dataset.data_root={sample_photos}' for part in ('train', 'test')]
    workers = ['train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']
    config = str(root / 'configs' / 'selfsup' / 'zoo' / 'convnextv2_atto.py')
    options = ['--cfg-options', *named, *data, *workers]
    train.main([config, '--work-dir', str(tmp_path / 'run'), *options])
    log = read_log(tmp_path / 'run')
    assert 'token added after stages.2 (stride 16, 160 channels); decoder 320 -> 3 x 32 x 32' in log
    backbone = load_backbone(tmp_path / 'run' / 'epoch_1.pth')
    assert backbone.pretrained_cfg['input_size'] == (3, 64, 64)
    known = {}
    exec('\n'.join(re.search(r'or: (import timm.*)\n +(.*)\n +(.*)', log).groups()), known)
    plain = known['backbone']
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(plain.eval().forward_features(images), backbone(images)[0])
    grid = tmp_path / 'grid.png'
    reconstruct.main(
        [str(tmp_path / 'run' / 'epoch_1.pth'), '--images', str(sample_photos), '--out', str(grid)]
    )
    assert grid.is_file()


def test_resume_goes_on_with_parameter_groups_of_their_own(trained, tmp_path):
    config, work_dir, photos = trained
    moved = shutil.copytree(work_dir, tmp_path / 'moved')
    (moved / 'last_checkpoint').write_text(str(moved / 'epoch_1.pth'))
    train.main([config, '--work-dir', str(moved), '--resume', *short(photos, 2)])
    log = read_log(moved)
    assert 'Epoch(train) [2][2/2]' in log
    assert 'resuming from' in log
    assert 'resuming keeps lr' not in log


@ONE
def test_fewer_images_than_a_batch(trained, tmp_path, capsys):
    config, _, photos = trained
    with pytest.raises(SystemExit):
        options = [*short(photos, 1), 'train_dataloader.batch_size=13']
        run_tool(lambda: train.main([config, '--work-dir', str(tmp_path), *options]))
    message = capsys.readouterr().err
    assert 'the 12 images of a rank do not fill a batch of 13' in message and 'Traceback' not in message


@ONE
def test_losses_on_test_data_do_not_depend_on_the_call(trained, tmp_path):
    config, work_dir, photos = trained
    out = tmp_path / 'metrics.json'
    arguments = [config, str(work_dir / 'epoch_1.pth'), '--work-dir', str(tmp_path), '--out', str(out)]
    first = test.main([*arguments, *short(photos, 1)])
    again = test.main([*arguments, *short(photos, 1)])
    assert first == again
    assert set(first) == {'loss_spa', 'loss_freq'} and min(first.values()) > 0
    assert json.loads(out.read_text()) == pytest.approx(first)


def test_reconstruct_draws_one_row_an_image(trained, tmp_path, capsys):
    config, work_dir, photos = trained
    grids = {}
    variants = dict(two=['--count', '2'], one=['--count', '1'], bare=['--no-token', '--count', '2'])
    for name, options in variants.items():
        path = tmp_path / f'{name}.png'
        reconstruct.main(
            [str(work_dir / 'epoch_1.pth'), '--images', str(photos), '--out', str(path), *options]
        )
        grids[name] = cv2.imread(str(path))
    assert re.search(r'without the token the prediction changes by \d+\.\d\d of 255', capsys.readouterr().out)
    row = grids['two'].shape[0] - grids['one'].shape[0]
    assert row == 128 + 2  # 64 pixels enlarged twice, and the padding
    assert np.array_equal(grids['two'][22 : 22 + row], grids['one'][22 : 22 + row])
    assert not np.array_equal(grids['two'], grids['bare'])


@ONE
def test_reconstructions_of_several_models_stand_side_by_side(trained, tmp_path, capsys):
    config, work_dir, photos = trained
    checkpoint, other = str(work_dir / 'epoch_1.pth'), str(tmp_path / 'other.pth')
    content = torch.load(checkpoint, weights_only=False)
    content['state_dict']['neck.decoder.0.bias'] += 0.5
    torch.save(content, other)
    out = tmp_path / 'grid.png'
    arguments = [checkpoint, '--images', str(photos), '--out', str(out), '--count', '2']
    reconstruct.main([*arguments, '--compare', other, checkpoint, '--names', 'mine', 'other', 'again'])
    printed = capsys.readouterr().out
    off = re.search(r'off by mine (.*), other (.*), again (.*) of 255, where hidden', printed).groups()
    assert off[0] == off[2] != off[1] and all(0 < float(value) < 255 for value in off)
    grid = cv2.imread(str(out))
    columns = [grid[22:-22, 2 + 130 * column : 130 + 130 * column] for column in range(5)]
    assert grid.shape[1] == 5 * 130 + 2
    assert np.array_equal(columns[2], columns[4])
    seen = (columns[0] == columns[1]).all(-1)  # what the model sees of the image is the same in all columns
    assert 0.3 < seen.mean() < 0.5
    for column in columns[2:]:
        same = (column[seen] == columns[0][seen]).all(-1)  # a hidden pixel may be of the mean colour itself
        assert same.mean() > 0.99
    assert not np.array_equal(columns[2], columns[3])


@pytest.mark.parametrize(
    'options, said',
    [
        (['--compare', 'nowhere.pth'], 'no checkpoint at nowhere.pth'),
        (['--compare', 'x.pth', '--no-token'], 'not allowed with'),
        (['--compare', 'x.pth', '--names', 'one'], '1 names for 2 checkpoints'),
        (['--compare', 'x.pth', '--names', 'one', 'one'], 'must differ'),
    ],
)
@ONE
def test_comparisons_that_cannot_be(trained, options, said, tmp_path, capsys):
    config, work_dir, photos = trained
    arguments = [str(work_dir / 'epoch_1.pth'), '--images', str(photos)]
    with pytest.raises(SystemExit):
        run_tool(lambda: reconstruct.main([*arguments, '--out', str(tmp_path / 'x.png'), *options]))
    message = capsys.readouterr().err
    assert said in message and 'Traceback' not in message


@ONE
def test_browse_shows_what_training_sees(trained, tmp_path, capsys):
    config, _, photos = trained
    browse.main([config, '--out', str(tmp_path / 'seen.png'), '--count', '4', *short(photos, 1)])
    printed = capsys.readouterr().out
    assert f'12 images in {photos}' in printed
    assert 'mask: 64 x 64 pixels, grid of 4 x 4, 10 of 16 patches hidden (62.5%), fill: mean' in printed
    assert cv2.imread(str(tmp_path / 'seen.png')).shape[1] > 4 * 64


def test_a_config_builds_what_a_checkpoint_does_not_say(trained, root, tmp_path, capsys):
    config, work_dir, photos = trained
    whole, bare = str(work_dir / 'epoch_1.pth'), str(tmp_path / 'bare.pth')
    torch.save(torch.load(whole, weights_only=False)['state_dict'], bare)
    images = ['--images', str(photos), '--count', '2', '--out']
    reconstruct.main([whole, *images, str(tmp_path / 'said.png')])
    reconstruct.main([bare, '--config', config, *images, str(tmp_path / 'given.png')])
    said, given = (cv2.imread(str(tmp_path / f'{name}.png'))[:-22] for name in ('said', 'given'))
    assert np.array_equal(said, given)  # but for the name of the file below

    other = next(name for name in NAMES if name not in config)
    out = [*images, str(tmp_path / 'x.png')]
    for wrong, words in (
        ([bare, *out], 'does not say how its network is built'),
        ([bare, '--config', str(root / f'configs/selfsup/{other}.py'), *out], 'another model'),
        ([bare, '--config', 'nowhere.py', *out], 'no config file nowhere.py'),
        ([bare, *out, '--cfg-options', 'a=1'], 'overwrite values of a config'),
        (['nowhere.pth', *out], 'no checkpoint at nowhere.pth'),
        ([whole, '--images', 'nowhere.jpg', *out[4:]], 'not found: nowhere.jpg'),
    ):
        with pytest.raises(SystemExit) as end:
            run_tool(lambda wrong=wrong: reconstruct.main(wrong))
        message = capsys.readouterr().err
        assert end.value.code and words in message and 'Traceback' not in message
    assert not (tmp_path / 'x.png').exists()
