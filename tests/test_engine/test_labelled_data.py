"""Configs of detection and segmentation: data that do not fit them are refused before anything is built."""

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.own_data import write_own_config
from mmengine.config import Config

from a2mim_mm.engine.labelled_data import check, check_labelled_data

pytest.importorskip('mmcv._ext', reason='mmdet needs the compiled ops of mmcv')
from mmdet.datasets import CocoDataset
from mmseg.datasets import ADE20KDataset

FOLDER = Path(__file__).resolve().parents[2] / 'configs'
SPLITS = ('train', 'val')
PLACE = '/where/the/data/are'


def write_coco(folder, names=('cat', 'dog'), ids=(1, 2), images='images/{}', suffix=''):
    """One image with an object of each category in each split."""
    outline = [5, 5, 25, 5, 25, 25, 5, 25]
    rest = dict(image_id=1, bbox=[5, 5, 20, 20], area=400, iscrowd=0, segmentation=[outline])
    content = dict(
        images=[dict(id=1, file_name='a.jpg', width=64, height=48)],
        annotations=[dict(rest, id=number, category_id=number) for number in ids],
        categories=[dict(id=number, name=name) for number, name in zip(ids, names, strict=True)],
    )
    for split in SPLITS:
        image = folder / images.format(split) / 'a.jpg'
        image.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), np.zeros((48, 64, 3), np.uint8))
        path = folder / f'annotations/instances_{split}{suffix}.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))


def write_masks(folder, values=(0, 1, 2), masks='masks', splits=SPLITS):
    """Two images in each split; the masks have all of the values."""
    arrays = {
        'images/{}/{}.jpg': np.zeros((8, 2 * len(values), 3), np.uint8),
        masks + '/{}/{}.png': np.repeat(np.array([values], np.uint8), 8, axis=0),
    }
    for split in splits:
        for name in 'ab':
            for pattern, array in arrays.items():
                path = folder / pattern.format(split, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), array)


@pytest.fixture(scope='module')
def templates(tmp_path_factory):
    """The configs for one's own data, read once, with PLACE as the folder of the data."""
    path = tmp_path_factory.mktemp('configs')
    own = {
        'mmdet/custom_coco.py': ('cat', 'dog'),
        'mmseg/custom_masks.py': ('background', 'cat', 'dog'),
    }
    return {
        template[:5]: Config.fromfile(
            write_own_config(path / 'own.py', template, data_root=PLACE, classes=classes)
        ).to_dict()
        for template, classes in own.items()
    }


def moved(node, folder):
    """A copy of a config whose data lie in another folder."""
    if isinstance(node, dict):
        return {key: moved(value, folder) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(moved(value, folder) for value in node)
    return node.replace(PLACE, str(folder)) if isinstance(node, str) else node


@pytest.fixture
def detection(tmp_path, templates):
    write_coco(tmp_path)
    return Config(moved(templates['mmdet'], tmp_path))


@pytest.fixture
def segmentation(tmp_path, templates):
    write_masks(tmp_path)
    return Config(moved(templates['mmseg'], tmp_path))


def refusal(cfg, splits=SPLITS):
    with pytest.raises(ValueError) as error:
        check_labelled_data(cfg, splits)
    assert '\n' not in str(error.value)
    return str(error.value)


def rewrite(folder, split, change):
    path = folder / f'annotations/instances_{split}.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return str(path)


def set_classes(cfg, classes, splits=SPLITS):
    for split in splits:
        cfg[f'{split}_dataloader'].dataset.metainfo = dict(classes=classes)


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_good_data_pass_and_the_config_stays_as_it_is(task, request):
    cfg = request.getfixturevalue(task)
    before = copy.deepcopy(cfg._cfg_dict)
    assert check_labelled_data(cfg, ('train', 'val', 'test')) == []
    assert cfg._cfg_dict == before
    assert check_labelled_data(Config(dict(default_scope='mmpretrain', train_dataloader=dict()))) == []


def test_other_ranks_are_told(detection, monkeypatch):
    """Rank 1 reads nothing and hears from rank 0."""
    monkeypatch.setattr(check, 'get_rank', lambda: 1)
    monkeypatch.setattr(check, '_check', None)
    told = [['a warning'], None]
    monkeypatch.setattr(check, 'broadcast_object_list', lambda data: data.__setitem__(slice(None), told))
    assert check_labelled_data(detection) == ['a warning']
    told[1] = 'a fault'
    assert refusal(detection) == 'a fault'


@pytest.mark.parametrize('split', ['val', 'test'])
def test_files_of_validation_and_test_are_read(split, detection, tmp_path):
    path = rewrite(tmp_path, 'val', lambda content: content['annotations'][0].pop('iscrowd'))
    message = refusal(detection, ('train', 'val') if split == 'val' else ('test',))
    assert message.startswith(f"{path}: annotation 1 has no 'iscrowd'")
    assert check_labelled_data(detection, ('train',)) == []


def test_forms_of_the_classes(detection, tmp_path):
    for classes in ('cat', 'cats and dogs'):
        set_classes(detection, classes)
        message = refusal(detection)
        assert f'is the string {classes!r}' in message and f'write ({classes!r},)' in message
    (tmp_path / 'classes.txt').write_text('cat\ndog\n')
    set_classes(detection, str(tmp_path / 'classes.txt'))
    assert check_labelled_data(detection) == []
    set_classes(detection, ['cat', 'dog'], ['val'])
    assert check_labelled_data(detection) == []


def test_order_of_classes(detection, tmp_path):
    set_classes(detection, ('dog', 'cat'), ['train'])
    assert "write classes=('cat', 'dog')" in refusal(detection)
    set_classes(detection, ('cat', 'dog'))
    rewrite(tmp_path, 'val', lambda content: content['categories'].reverse())
    set_classes(detection, ('dog', 'cat'), ['val'])
    assert refusal(detection).startswith('train_dataloader has the classes cat, dog, val_dataloader dog, cat')


def test_boxes_alone_need_no_segmentation(detection, tmp_path):
    def drop(content):
        for ann in content['annotations']:
            del ann['segmentation']

    for split in SPLITS:
        rewrite(tmp_path, split, drop)
    assert "annotation 1 has no 'segmentation'" in refusal(detection)
    detection.train_dataloader.dataset.pipeline[1].with_mask = False
    detection.val_dataloader.dataset.pipeline[2].with_mask = False
    assert "instances_val.json: annotation 1 has no 'segmentation'" in refusal(detection)
    detection.val_evaluator.metric = 'bbox'
    assert check_labelled_data(detection) == []


def test_an_evaluator_with_another_file_is_said(detection):
    detection.val_evaluator.ann_file = 'data/coco/annotations/instances_val2017.json'
    (warning,) = check_labelled_data(detection)
    assert warning.startswith('val_evaluator reads data/coco/annotations/instances_val2017.json')


def wrap(kind, dataset):
    inner = copy.deepcopy(dataset)
    if kind == 'ConcatDataset':
        return dict(type=kind, datasets=[inner, inner])
    return dict(type=kind, dataset=inner, **dict(pipeline=[]) if kind == 'MultiImageMixDataset' else {})


@pytest.mark.parametrize(
    'kind', ['ConcatDataset', 'RepeatDataset', 'ClassBalancedDataset', 'MultiImageMixDataset']
)
def test_wrapped_data_are_looked_into(kind, detection, segmentation, tmp_path):
    for cfg in (detection, segmentation):
        dataset = wrap(kind, cfg.train_dataloader.dataset)
        cfg.train_dataloader.dataset = wrap('RepeatDataset', dataset)
        check_labelled_data(cfg)
    rewrite(tmp_path, 'train', lambda content: content['images'][0].pop('height'))
    cv2.imwrite(str(tmp_path / 'masks/train/b.png'), np.full((8, 6), 3, np.uint8))
    assert "has no 'height'" in refusal(detection)
    assert 'b.png has the value 3' in refusal(segmentation)


def test_heads_of_a_detector(detection):
    heads = detection.model.roi_head
    for name, number in (('bbox_head', 3), ('mask_head', 3), ('bbox_head', None)):  # None: 80 by default
        before = copy.deepcopy(heads[name])
        heads[name].num_classes = number
        if number is None:
            del heads[name]['num_classes']
        message = refusal(detection)
        assert message.startswith('train_dataloader has 2 classes (cat, dog)')
        assert f'model.roi_head.{name}.num_classes {number or 80}: ' in message
        heads[name] = before
    heads.bbox_head = [copy.deepcopy(heads.bbox_head) for _ in range(3)]  # a cascade
    assert check_labelled_data(detection) == []
    heads.bbox_head[2].num_classes = 4
    assert 'model.roi_head.bbox_head.2.num_classes 4' in refusal(detection)
    detection.model = dict(type='RetinaNet', bbox_head=dict(type='RetinaHead', num_classes=80, in_channels=8))
    assert 'model.bbox_head.num_classes 80' in refusal(detection)


def test_heads_of_a_segmentor(segmentation):
    segmentation.model.decode_head.num_classes = 11
    assert 'model.decode_head.num_classes 11' in refusal(segmentation)
    segmentation.model.decode_head.num_classes = 3
    auxiliary = segmentation.model.auxiliary_head
    boundaries = dict(type='STDCHead', num_classes=2, boundary_threshold=0.1)
    segmentation.model.auxiliary_head = [auxiliary, boundaries]
    assert check_labelled_data(segmentation) == []
    auxiliary = dict(auxiliary, num_classes=5)
    segmentation.model.auxiliary_head = [boundaries, auxiliary]
    assert 'model.auxiliary_head.1.num_classes 5' in refusal(segmentation)


def test_void_is_what_all_heads_ignore(segmentation, tmp_path):
    cv2.imwrite(str(tmp_path / 'masks/train/b.png'), np.full((8, 6), 3, np.uint8))
    assert 'has the value 3' in refusal(segmentation)
    segmentation.model.decode_head.ignore_index = 3
    assert 'has the value 3' in refusal(segmentation)
    segmentation.model.auxiliary_head.ignore_index = 3
    assert check_labelled_data(segmentation) == []


def test_endings_and_lists(segmentation, tmp_path):
    (tmp_path / 'images/train/b.jpg').rename(tmp_path / 'images/train/b.jpeg')
    (warning,) = check_labelled_data(segmentation)
    assert '(1 x .jpeg, 1 x .jpg), 1 end with' in warning and 'left out' in warning
    (tmp_path / 'images/train/a.jpg').rename(tmp_path / 'images/train/a.JPG')
    message = refusal(segmentation)
    assert f"no file in {tmp_path}/images/train ends with '.jpg', it holds 1 x .JPG, 1 x .jpeg" in message
    (tmp_path / 'list.txt').write_text('')
    segmentation.train_dataloader.dataset.ann_file = 'list.txt'
    assert f'the list {tmp_path}/list.txt is empty' in refusal(segmentation)


def test_files_that_do_not_exist(segmentation, detection, tmp_path):
    (tmp_path / 'images/val/a.jpg').rename(tmp_path / 'images/a.jpg')
    assert f'1 of 1 images do not exist, such as {tmp_path}/images/val/a.jpg' in refusal(detection)
    (tmp_path / 'images/a.jpg').rename(tmp_path / 'images/val/a.jpg')
    cv2.imwrite(str(tmp_path / 'masks/val/b.png'), np.zeros((8, 6, 3), np.uint8))
    assert refusal(segmentation).startswith(f'{tmp_path}/masks/val/b.png has 3 channels')
    (tmp_path / 'masks/val/b.png').unlink()
    message = refusal(segmentation)
    assert f'1 of 2 masks (seg_map_suffix) do not exist, such as {tmp_path}/masks/val/b.png' in message
    assert f'{tmp_path}/masks/val holds 1 x .png' in message
    segmentation.train_dataloader.dataset.data_prefix.img_path = 'nowhere'
    assert 'nowhere' in refusal(segmentation)
    detection.train_dataloader.dataset.ann_file = 'nowhere.json'
    assert 'nowhere.json' in refusal(detection)


@pytest.mark.parametrize('name', ['r50-c4_2x', 'vit-b-fpn_1x'])
def test_coco_as_published_passes(name, tmp_path):
    """80 categories whose ids have gaps, and the configs as they are."""
    ids = [number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
    write_coco(tmp_path, CocoDataset.METAINFO['classes'], ids, images='{}2017', suffix='2017')
    cfg = Config.fromfile(FOLDER / f'mmdet/mask-rcnn_a2mim-{name}_coco.py')
    for split in (*SPLITS, 'test'):
        cfg[f'{split}_dataloader'].dataset.data_root = str(tmp_path)
    for split in ('val', 'test'):
        cfg[f'{split}_evaluator'].ann_file = str(tmp_path / 'annotations/instances_val2017.json')
    assert check_labelled_data(cfg, (*SPLITS, 'test')) == []


def test_ade20k_as_published_passes(tmp_path):
    """Values 1 to 150, and 0, which reduce_zero_label takes for void."""
    write_masks(tmp_path, values=range(151), masks='annotations', splits=('training', 'validation'))
    cfg = Config.fromfile(FOLDER / 'mmseg/upernet_a2mim-vit-b_100e_ade20k-512x512.py')
    for split in (*SPLITS, 'test'):
        cfg[f'{split}_dataloader'].dataset.data_root = str(tmp_path)
    assert len(ADE20KDataset.METAINFO['classes']) == 150
    assert check_labelled_data(cfg, (*SPLITS, 'test')) == []
