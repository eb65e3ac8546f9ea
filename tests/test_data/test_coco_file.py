"""Annotation files that mmdet would misread, or stumble over, are refused with file, entry and remedy."""

import copy
import json
from dataclasses import replace

import pytest

from a2mim_mm.data.coco_file import CocoUse, check_categories, check_coco_file

USE = CocoUse(classes=('cat', 'dog'), masks=True, evaluated=True)
SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]
RLE = dict(size=[48, 64], counts='abc')
GOOD = dict(
    images=[
        dict(id=1, file_name='a.jpg', width=64, height=48),
        dict(id=2, file_name='b.jpg', width=64, height=48),
    ],
    annotations=[
        dict(
            id=number,
            image_id=image,
            category_id=category,
            bbox=[10, 10, 20, 20],
            area=400,
            iscrowd=0,
            segmentation=[SQUARE],
        )
        for number, image, category in ((1, 1, 3), (2, 1, 7), (3, 2, 7))
    ],
    categories=[dict(id=3, name='cat'), dict(id=7, name='dog')],
)
ABSENT = object()


def written(tmp_path, content):
    path = tmp_path / 'instances.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def changed(where, **values):
    """GOOD with values of the last entry of a list changed, or taken away."""
    content = copy.deepcopy(GOOD)
    entry = content[where][-1]
    for key, value in values.items():
        entry.pop(key) if value is ABSENT else entry.update({key: value})
    return content


def refusal(tmp_path, content, use=USE):
    path = written(tmp_path, content)
    with pytest.raises(ValueError) as error:
        check_coco_file(path, use)
    message = str(error.value)
    assert message.startswith(path) and '\n' not in message
    return message


def test_a_good_file_passes(tmp_path):
    assert check_coco_file(written(tmp_path, GOOD), USE) == (['a.jpg', 'b.jpg'], [])
    assert check_coco_file(written(tmp_path, changed('annotations', segmentation=RLE)), USE)[1] == []


@pytest.mark.parametrize(
    ('content', 'told'),
    [
        ('[]', 'holds a list'),
        ('{"images": [', 'is not JSON'),
        (dict(GOOD, images=[]), "needs 'images'"),
        (dict(GOOD, categories={}), "needs 'categories'"),
        (dict(GOOD, annotations=[]), "needs 'annotations'"),
        (changed('categories', name=ABSENT), "needs an 'id' and a 'name'"),
        (changed('categories', id=3), 'two categories with the id 3'),
        (changed('images', height=ABSENT), "image 2 has no 'height'"),
        (changed('images', width=None), 'image 2 has width None'),
        (changed('images', width='64'), "image 2 has width '64'"),
        (changed('images', height=0), 'image 2 has height 0'),
        (changed('images', file_name=ABSENT), "image 2 has no 'file_name'"),
        (changed('images', id=[2]), 'has id [2]'),
        (changed('images', id=1), 'image 1 occurs twice'),
        (changed('annotations', id=ABSENT), "has no 'id'"),
        (changed('annotations', id=1), 'annotation 1 occurs twice'),
        (changed('annotations', image_id='2'), "annotation 3 belongs to image '2'"),
        (changed('annotations', image_id=None), 'annotation 3 has image_id None'),
        (changed('annotations', category_id=2), 'annotation 3 belongs to category 2'),
        (changed('annotations', bbox=ABSENT), 'annotation 3 has bbox None'),
        (changed('annotations', bbox=[1, 2, 3]), 'annotation 3 has bbox [1, 2, 3]'),
        (changed('annotations', bbox=[30, 30, -20, -20]), 'with a negative size'),
        (changed('annotations', bbox=dict(x=1)), 'annotation 3 has bbox'),
        (changed('annotations', area=ABSENT), "annotation 3 has no 'area'"),
        (changed('annotations', area='9'), "annotation 3 has area '9'"),
        (changed('annotations', iscrowd=ABSENT), "annotation 3 has no 'iscrowd': write 0"),
        (changed('annotations', iscrowd='0'), "annotation 3 has iscrowd '0'"),
        (changed('annotations', segmentation=ABSENT), "annotation 3 has no 'segmentation'"),
        (changed('annotations', segmentation=[]), 'annotation 3 has segmentation []'),
        (changed('annotations', segmentation=SQUARE), 'annotation 3 has a flat list'),
        (changed('annotations', segmentation=[[1, 2, 3, 4]]), 'has no polygon of at least three points'),
        (changed('annotations', segmentation=[[1, 2, 3, 4, 5, '6']]), 'needs lists of numbers'),
        (changed('annotations', segmentation='abc'), 'needs polygons or'),
        (
            changed('annotations', segmentation=dict(RLE, size=[64, 48])),
            'of size [64, 48], but its image is [48, 64]',
        ),
    ],
)
def test_a_fault_names_file_entry_and_remedy(content, told, tmp_path):
    assert told in refusal(tmp_path, content)


@pytest.mark.parametrize(
    ('use', 'values'),
    [
        (dict(masks=False), dict(segmentation=ABSENT)),
        (dict(masks=False), dict(segmentation=SQUARE)),
        (dict(evaluated=False), dict(iscrowd=ABSENT)),
        (dict(evaluated=False), dict(segmentation=ABSENT, bbox=[10, 10, 0.5, 20])),  # mmdet drops it
        (dict(), dict(bbox=ABSENT, area=ABSENT, ignore=True)),
        (dict(), dict(bbox=[10.5, 10, 20, 20.0])),
        (dict(rle=False), dict(segmentation=RLE, iscrowd=1)),  # as COCO has its crowds
    ],
)
def test_what_is_not_read_is_not_asked_for(use, values, tmp_path):
    check_coco_file(written(tmp_path, changed('annotations', **values)), replace(USE, **use))


def test_a_test_file_needs_no_annotations(tmp_path):
    content = dict(GOOD)
    del content['annotations']
    path = written(tmp_path, content)
    assert check_coco_file(path, replace(USE, labelled=False))[1] == []


def test_run_length_codes_without_poly2mask(tmp_path):
    content = changed('annotations', segmentation=RLE)
    assert 'poly2mask=True' in refusal(tmp_path, content, replace(USE, rle=False))


def with_boxes(*boxes):
    content = copy.deepcopy(GOOD)
    template = content['annotations'].pop()
    content['annotations'] = [dict(template, id=number, bbox=box) for number, box in enumerate(boxes)]
    return content


def test_corners_instead_of_sizes(tmp_path):
    message = refusal(tmp_path, with_boxes([10, 10, 60, 40], [2, 3, 30, 20], [30, 20, 50, 44]))
    assert '[x1, y1, x2, y2]' in message


def test_boxes_in_fractions_of_the_image(tmp_path):
    assert 'uses none of its 2 annotations' in refusal(
        tmp_path, with_boxes([0.1, 0.1, 0.5, 0.5], [0, 0, 1, 0.9])
    )


def test_nothing_but_crowds(tmp_path):
    content = copy.deepcopy(GOOD)
    for ann in content['annotations']:
        ann['iscrowd'] = 1
    assert 'uses none of its 3 annotations' in refusal(tmp_path, content)


def test_some_unused_boxes_are_said(tmp_path):
    path = written(tmp_path, with_boxes([10, 10, 20, 20], [70, 10, 20, 20]))
    assert 'leaves out 1 of 2 annotations, such as 1' in ' '.join(check_coco_file(path, USE)[1])


def categories(*names):
    return [dict(id=number * 2, name=name) for number, name in enumerate(names, start=1)]


@pytest.mark.parametrize(
    ('names', 'classes', 'told'),
    [
        (('cat', 'dog'), ('Cat', 'dog'), "no category 'Cat'"),
        (('cat', 'dog'), ('cat', 'dog', 'cow'), "no category 'cow'"),
        (('cat', 'dog'), ('dog', 'cat'), "write classes=('cat', 'dog')"),
        (('cat', 'cow', 'dog'), ('dog', 'cat'), "write classes=('cat', 'dog')"),
        (('dog', 'dog', 'cat'), ('dog', 'cat'), "two categories with the name 'dog'"),  # mmdet counts both
    ],
)
def test_names_and_order_of_classes(names, classes, told):
    with pytest.raises(ValueError) as error:
        check_categories('x.json', categories(*names), classes)
    assert told in str(error.value)


def test_some_of_the_categories_may_be_left_out():
    assert check_categories('x.json', categories('cat', 'dog'), ('cat', 'dog')) == []
    (warning,) = check_categories('x.json', categories('animal', 'cat', 'cow', 'dog'), ('cat', 'dog'))
    assert warning == "x.json: metainfo.classes leaves out 'animal', 'cow'"
