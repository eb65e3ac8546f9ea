"""Detection and segmentation through tools/train.py and tools/test.py, on one's own data."""

import json
from pathlib import Path

import pytest
from helpers.own_data import write_own_config
from helpers.toy_training import read_log, tool

pytest.importorskip('mmcv._ext', reason='mmdet needs the compiled ops of mmcv')
voc_photo = pytest.importorskip('helpers.voc_photo')
SEGMENTATION = dict(
    template='mmseg/custom_masks.py', classes=('background', *voc_photo.CLASSES.values()), image_suffix='.jpg'
)
DETECTION = dict(
    template='mmdet/custom_coco.py', classes=tuple(voc_photo.CLASSES.values()), image_size=(160, 128)
)
CPU = (
    *(
        f'{split}_dataloader.{option}'
        for split in ('train', 'val', 'test')
        for option in ('num_workers=0', 'persistent_workers=False')
    ),
    'default_hooks.logger.interval=1',
    'model.backbone.depth=18',
)


def last_validation(work_dir: Path) -> dict:
    """The metrics that the end of a training logged."""
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return next(line for line in reversed(lines) if 'loss' not in line)


@pytest.mark.parametrize('name', ['train', 'test'])
def test_labels_that_do_not_fit_are_refused_before_data_sets_are_built(name, tmp_path):
    voc_photo.write_coco(tmp_path)
    config = write_own_config(tmp_path / 'own.py', data_root=f'{tmp_path}/', **DETECTION)
    for path in (tmp_path / 'annotations').iterdir():
        path.write_text(path.read_text().replace('"height"', '"rows"'))
    arguments = ['none.pth'] if name == 'test' else ['--device', 'cpu']
    with pytest.raises(ValueError, match=r"instances_\w+\.json: image 1 has no 'height'"):
        tool(name).main([config, *arguments, '--work-dir', f'{tmp_path}/run'])


@pytest.mark.parametrize(
    ('own', 'write', 'metrics', 'options'),
    [
        (
            SEGMENTATION,
            voc_photo.write_masks,
            ('mIoU', 'mAcc', 'aAcc'),
            (
                'train_cfg.max_iters=2',
                'train_dataloader.dataset.pipeline.2.scale=(128,96)',
                'train_dataloader.dataset.pipeline.3.crop_size=(64,64)',
                'model.data_preprocessor.size=(64,64)',
                'model.decode_head.in_channels=[64,128,256,512]',
                'model.decode_head.channels=16',
                'model.auxiliary_head.in_channels=256',
                'val_dataloader.dataset.pipeline.1.scale=(128,96)',
                'test_dataloader.dataset.pipeline.1.scale=(128,96)',
            ),
        ),
        (
            DETECTION,
            voc_photo.write_coco,
            ('coco/bbox_mAP', 'coco/segm_mAP', 'coco/segm_mAP_50'),
            (
                'train_cfg.max_epochs=2',
                'train_cfg.val_interval=2',
                'model.neck.in_channels=[64,128,256,512]',
                'model.neck.out_channels=16',
                'model.rpn_head.in_channels=16',
                'model.rpn_head.feat_channels=16',
                *(
                    f'model.roi_head.{part}=16'
                    for part in (
                        'bbox_roi_extractor.out_channels',
                        'mask_roi_extractor.out_channels',
                        'bbox_head.in_channels',
                        'bbox_head.conv_out_channels',
                        'bbox_head.fc_out_channels',
                        'mask_head.in_channels',
                        'mask_head.conv_out_channels',
                    )
                ),
                'model.train_cfg.rcnn.sampler.num=64',
                'model.train_cfg.rpn_proposal.max_per_img=100',
                'model.test_cfg.rpn.max_per_img=100',
                'model.test_cfg.rcnn.score_thr=0.0',
                'model.test_cfg.rcnn.max_per_img=40',
            ),
        ),
    ],
    ids=['segmentation', 'detection'],
)
def test_testing_repeats_the_validation_at_the_end_of_training(
    own, write, metrics, options, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    config = write_own_config(tmp_path / 'own.py', data_root=f'{tmp_path}/', **own)
    tool('train').main([config, '--work-dir', 'run', '--device', 'cpu', '--cfg-options', *options, *CPU])
    checkpoint = Path('run/last_checkpoint').read_text()
    tested = tool('test').main(
        [config, checkpoint, '--work-dir', 'test', '--out', 'metrics.json', '--cfg-options', *options, *CPU]
    )
    validated = last_validation(Path('run'))
    assert json.loads(Path('metrics.json').read_text()).keys() == tested.keys() >= set(metrics)
    for name in metrics:
        assert tested[name] == pytest.approx(validated[name], abs=1e-6)
    assert tested[metrics[0]] > 0
    assert 'starting from scratch' in read_log('run')
