"""tools/browse_data.py: the picture shows what the training sees, and errors say what is wrong."""

import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.pictures import write_photos
from helpers.toy_training import tool
from mmengine.config import Config
from PIL import Image

from a2mim_mm.data import SampleKey
from a2mim_mm.drawing import MIN_WIDTH, PADDING, TITLE_HEIGHT
from a2mim_mm.engine.run_tool import run_tool
from a2mim_mm.models.masking import RandomPatchMask, resize_mask

browse = tool('browse_data')
browse.pipeline_speed.__defaults__ = (0.1,)  # seconds
SIZE, PATCH = 64, 16


@pytest.fixture
def config(tmp_path):
    """A pre-training config on 6 photos. One of them is empty."""
    paths = write_photos(tmp_path / 'data', 6)
    paths[2].write_bytes(b'')
    return dict(
        default_scope='mmpretrain',
        custom_imports=dict(imports=['a2mim_mm'], allow_failed_imports=False),
        randomness=dict(seed=4),
        model=dict(
            type='a2mim_mm.A2MIM',
            backbone=dict(type='a network that need not be built'),
            data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
            mask=dict(type='a2mim_mm.RandomPatchMask', patch_size=PATCH, ratio=0.6),
        ),
        train_dataloader=dict(
            batch_size=64,
            num_workers=2,
            persistent_workers=True,
            drop_last=True,
            sampler=dict(type='a2mim_mm.KeyedSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
            dataset=dict(
                type='a2mim_mm.UnlabelledImages',
                data_root=str(tmp_path / 'data'),
                pipeline=[
                    dict(type='a2mim_mm.LoadImage'),
                    dict(type='RandomResizedCrop', scale=SIZE, crop_ratio_range=(0.67, 1.0), backend='cv2'),
                    dict(type='RandomFlip', prob=0.5),
                    dict(type='a2mim_mm.MaskSeed'),
                    dict(type='PackInputs', algorithm_keys=('mask_seed', 'unreadable')),
                ],
            ),
        ),
    )


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the tool as its __main__ does; returns its exit status, and what it printed."""

    def run_main(config, *args):
        Config(config).dump(tmp_path / 'config.py')
        capsys.readouterr()
        try:
            run_tool(lambda: browse.main([f'{tmp_path}/config.py', '--out', f'{tmp_path}/out.png', *args]))
            return 0, capsys.readouterr().out
        except SystemExit as end:
            return end.code, capsys.readouterr().err

    return run_main


def test_the_summary(run, config, tmp_path):
    status, text = run(config, '--count', '50')  # more than there are
    assert status == 0
    assert f'6 images in {tmp_path}/data; epoch 0, seed 4' in text
    assert 'pipeline: LoadImage, RandomResizedCrop, RandomFlip, MaskSeed, PackInputs' in text
    assert 'mask: 64 x 64 pixels, grid of 4 x 4, 10 of 16 patches hidden (62.5%), fill: mean' in text
    assert re.search(r'speed: \d+ images/s', text)
    listed = re.findall(r'^ +\d+  (\d{4}\.jpg)(, flipped)?$', text, re.MULTILINE)
    assert len(listed) == 6 and '0002.jpg' not in dict(listed)
    assert {flip for _, flip in listed} == {'', ', flipped'}
    assert f'in place of {tmp_path}/data/0002.jpg: the file is empty' in text
    assert text.rstrip().endswith(f'drawn: {tmp_path}/out.png')
    status, text = run(config, '--cfg-options', 'model.mask.ratio=0.3', 'model.fill=zero')
    assert status == 0 and '5 of 16 patches hidden (31.2%), fill: zero' in text


def cell(picture: np.ndarray, column: int) -> np.ndarray:
    """The picture in a column of the first row, at its own size."""
    zoom = -(-MIN_WIDTH // SIZE)
    side = zoom * SIZE
    top, left = TITLE_HEIGHT + PADDING, PADDING + column * (side + PADDING)
    return picture[top : top + side : zoom, left : left + side : zoom].astype(int)


def test_the_picture_shows_the_training_sample_and_its_mask(run, config, tmp_path):
    assert run(config, '--count', '1', '--epoch', '3')[0] == 0
    drawn = np.asarray(Image.open(tmp_path / 'out.png'))
    original, masked = cell(drawn, 0), cell(drawn, 1)

    loader, _ = browse.build_loader(Config(config), 1, 3)
    key = next(iter(loader.sampler))
    assert isinstance(key, SampleKey) and key.epoch == 3 and key.seed == 4
    sample = loader.dataset[key]
    rgb = sample['inputs'].flip(0).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(original - rgb).max() <= 1

    mask_bhw = RandomPatchMask(PATCH, 0.6).draw([sample['data_samples'].mask_seed], (SIZE, SIZE))
    hidden = resize_mask(mask_bhw, (SIZE, SIZE))[0].bool().numpy()
    assert np.abs(masked[~hidden] - rgb[~hidden]).max() <= 1
    assert np.abs(masked[hidden] - rgb.mean((0, 1))).max() <= 1


def test_epochs_differ_and_repeat(run, config, tmp_path):
    pictures = []
    for epoch in (0, 1, 0):
        run(config, '--count', '3', '--epoch', str(epoch))
        pictures.append((tmp_path / 'out.png').read_bytes())
    assert pictures[0] == pictures[2] != pictures[1]


@pytest.mark.parametrize(
    'code, message',
    [
        ("del config['train_dataloader']", r'cannot be browsed: it has no train_dataloader'),
        ("config['model']['type'] = 'mmdet.MaskRCNN'", r'trains mmdet.MaskRCNN, not a2mim_mm.A2MIM'),
        ("config['train_dataloader']['dataset']['data_root'] = 'nowhere'", r"'nowhere' does not exist"),
        ("config['model']['mask']['patch_size'] = 48", r'patch_size=48 does not divide the input of 64 x 64'),
        ("config['model']['fill'] = 'median'", r"fill must be one of .* got 'median'"),
        ("del config['train_dataloader']['dataset']['pipeline'][3]", r'packs no mask_seed'),
    ],
)
@pytest.mark.filterwarnings('ignore:the mask grid has only')
def test_wrong_configs_end_in_a_message(run, config, code, message):
    exec(code)
    status, text = run(config)
    assert status == 1 and re.search(message, text), text
    assert text.startswith('error: ') and 'Traceback' not in text


@pytest.mark.parametrize(
    'args, message',
    [(['--count', '0'], 'at least 1'), (['--epoch', '-1'], 'not negative'), (['--out', 'x.jpg'], '.png')],
)
def test_wrong_arguments(run, config, args, message):
    status, text = run(config, *args)
    assert status == 2 and message in text


def test_captions_need_no_utf_8():
    sample = SimpleNamespace(img_path='photos/' + os.fsdecode(b'\xff.png'), get=lambda name: None)
    assert browse.describe_samples([sample], 'photos') == ['\\xff.png']
