"""An annotation file in COCO's format: what mmdet would stumble over, or misread in silence."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmengine import fileio

from a2mim_mm.errors import InputError

_NUMBERS = {int, float}  # as JSON is read; no bool
_MIN_OUTSIDE = 0.05  # of the image's side: less is rounding
_MANY_OUTSIDE = 0.1  # of the boxes
_MANY_UNUSED = 0.01  # of the annotations: COCO itself has a few boxes below one pixel


@dataclass(frozen=True)
class CocoUse:
    """What one data set reads of an annotation file.

    Attributes:
        classes: ``metainfo.classes``, in their order.
        labelled: Annotations are loaded, so there must be some.
        masks: ``segmentation`` is loaded or evaluated.
        rle: Masks may be run-length codes; without (``poly2mask=False``) mmdet drops those in silence.
        evaluated: pycocotools reads the file, too, which needs ``iscrowd``.
    """

    classes: tuple[str, ...]
    labelled: bool = True
    masks: bool = False
    rle: bool = True
    evaluated: bool = False


def check_coco_file(path: str, use: CocoUse, backend_args: dict | None = None) -> tuple[list[str], list[str]]:
    """Read an annotation file once and check all of it, in time linear in its length.

    Args:
        path: The file.
        use: What is read of it.
        backend_args: Of mmengine's file backend.

    Returns:
        The names of the images, and what is worth a warning.

    Raises:
        ValueError: At the first fault; names the file, the entry and the remedy.
        FileNotFoundError: If there is no such file.
    """
    content = _read(path, backend_args)
    for name in ('images', 'categories', *(('annotations',) if use.labelled else ())):
        if not isinstance(content.get(name), list) or not content[name]:
            raise InputError(f'{path} has no {name!r}, a list as in COCO, or an empty one')
    warnings = check_categories(path, content['categories'], use.classes)
    sizes = {}
    for image in content['images']:
        problem = _image_problem(image, sizes)
        if problem:
            raise InputError(f'{path}: image {_name(image)} {problem}')
        sizes[image['id']] = (image['width'], image['height'])
    warnings += _check_annotations(path, content, sizes, use)
    return [image['file_name'] for image in content['images']], warnings


def check_categories(path: str, categories: Sequence[dict], classes: Sequence[str]) -> list[str]:
    """Compare a file's categories with the classes of the data set.

    mmdet numbers the categories in the order of the *file*, those that the classes do not name left out, and
    takes number k for class k.

    Returns:
        A warning where categories are left out.

    Raises:
        ValueError: If a label would mean another class than its annotation.
    """
    for category in categories:
        if not isinstance(category, dict) or not {'id', 'name'} <= category.keys():
            raise InputError(f"{path}: category {category!r} needs an 'id' and a 'name'")
    names = [category['name'] for category in categories]
    for what, values in (
        ('categories with the id', [category['id'] for category in categories]),
        ('categories with the name', [name for name in names if name in classes]),
    ):
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise InputError(f'{path} has two {what} {twice[0]!r}: merge them into one')
    listed = ', '.join(map(repr, names))
    absent = [name for name in classes if name not in names]
    if absent:
        raise InputError(
            f'{path} has no category {absent[0]!r}, which metainfo.classes names, but {listed}: '
            'names must be equal to the letter, or mmdet leaves them out and numbers the others anew'
        )
    found = tuple(name for name in names if name in classes)
    if found != tuple(classes):
        raise InputError(
            f'{path} lists the categories in the order {", ".join(map(repr, found))}, metainfo.classes as '
            f'{", ".join(map(repr, classes))}: mmdet numbers them in the order of the file, so write '
            f'classes={found!r}'
        )
    left_out = [name for name in names if name not in classes]
    return [f'{path}: metainfo.classes leaves out {", ".join(map(repr, left_out))}'] if left_out else []


def _read(path: str, backend_args: dict | None) -> dict:
    try:
        content = json.loads(fileio.get_text(path, backend_args=backend_args))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f'{path} is no JSON: {error}') from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}, not COCO's 'images', 'annotations', 'categories'"
        )
    return content


def _name(entry: object) -> str:
    """How to find an entry: by its id, or as it is."""
    return repr(entry['id']) if isinstance(entry, dict) and 'id' in entry else repr(entry)[:100]


def _image_problem(image: dict, sizes: dict) -> str | None:
    if not isinstance(image, dict):
        return 'is no dictionary'
    if not isinstance(image.get('id'), (int, str)):
        return f'has {_value(image, "id")}: write a number'
    for key in ('width', 'height'):
        if not _is_number(image.get(key)) or image[key] <= 0:
            return f'has {_value(image, key)}: write its size in pixels'
    if not isinstance(image.get('file_name'), str):
        return f'has {_value(image, "file_name")}: write a path below the folder of the images'
    if image['id'] in sizes:
        return 'is there twice: ids must differ'
    return None


def _check_annotations(path: str, content: dict, sizes: dict, use: CocoUse) -> list[str]:
    """Check each annotation by itself, then what only all of them show; returns warnings."""
    used_ids = {category['id'] for category in content['categories'] if category['name'] in use.classes}
    known_ids = {category['id'] for category in content['categories']}
    seen, unused, learnt, outside, total = set(), [], 0, 0, 0
    corners = True
    for ann in content.get('annotations') or ():
        problem = _annotation_problem(ann, sizes, known_ids, seen)
        if problem is None and not ann.get('ignore', False):
            problem = _box_problem(ann) or _crowd_problem(ann, use)
            if problem is None and ann['category_id'] in used_ids:
                width, height = sizes[ann['image_id']]
                kept = _is_kept(ann, width, height)
                if use.masks and (kept or use.evaluated):
                    problem = _mask_problem(ann, width, height, use)
                x, y, w, h = ann['bbox']
                total += 1
                unused += [] if kept else [ann['id']]
                learnt += kept and not ann.get('iscrowd')
                outside += x + w > (1 + _MIN_OUTSIDE) * width or y + h > (1 + _MIN_OUTSIDE) * height
                corners = corners and w > x and h > y
        if problem:
            raise InputError(f'{path}: annotation {_name(ann)} {problem}')
        seen.add(ann['id'])
    if use.labelled and not learnt:
        raise InputError(
            f'{path}: mmdet uses none of its {total} annotations of the classes, as each has a box '
            'outside of its image or below one pixel, an area of 0, or iscrowd 1: a bbox is '
            '[x, y, width, height], in pixels'
        )
    if outside > _MANY_OUTSIDE * total and corners:
        raise InputError(
            f'{path}: {outside} of {total} boxes end outside of their image, as [x1, y1, x2, y2] would: '
            'write each bbox as [x, y, width, height]'
        )
    warnings = []
    if outside > _MANY_OUTSIDE * total:
        warnings.append(f'{path}: {outside} of {total} boxes end outside of their image')
    if len(unused) > _MANY_UNUSED * total:
        warnings.append(
            f'{path}: mmdet leaves out {len(unused)} of {total} annotations, such as {unused[0]}: their '
            'boxes are outside of the image or below one pixel, or their area is 0'
        )
    return warnings


def _annotation_problem(ann: dict, sizes: dict, known_ids: set, seen: set) -> str | None:
    if not isinstance(ann, dict):
        return 'is no dictionary'
    for key in ('id', 'image_id', 'category_id'):
        if not isinstance(ann.get(key), (int, str)):
            return f'has {_value(ann, key)}: write a number'
    if ann['image_id'] not in sizes:
        return f"is of image {ann['image_id']!r}, whose id 'images' does not have (numbers, not strings?)"
    if ann['category_id'] not in known_ids:
        return f"is of category {ann['category_id']!r}, whose id 'categories' does not have"
    if ann['id'] in seen:
        return 'is there twice: ids must differ'
    return None


def _box_problem(ann: dict) -> str | None:
    box = ann.get('bbox')
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f'has bbox {str(box)[:100]}: write [x, y, width, height], in pixels'
    if box[2] < 0 or box[3] < 0:
        return f'has bbox {box}, of a negative size: write [x, y, width, height], in pixels'
    if not _is_number(ann.get('area')):
        return f'has {_value(ann, "area")}: write the area of the mask, or of the box, in pixels'
    return None


def _crowd_problem(ann: dict, use: CocoUse) -> str | None:
    if ann.get('iscrowd', None if use.evaluated else 0) not in (0, 1):
        return f'has {_value(ann, "iscrowd")}: write 0, or 1 for a crowd that is left out'
    return None


def _mask_problem(ann: dict, width: float, height: float, use: CocoUse) -> str | None:
    mask = ann.get('segmentation')
    if not mask:
        return f'has {_value(ann, "segmentation")}: masks need it; to train boxes only, see docs/your_data.md'
    if isinstance(mask, list):
        if not isinstance(mask[0], list):
            return 'has a flat list as segmentation: nest it, [[x1, y1, x2, y2, ...]]'
        if not all(isinstance(part, list) and _NUMBERS.issuperset(map(type, part)) for part in mask):
            return 'has a segmentation that is no list of lists of numbers, [[x1, y1, x2, y2, ...]]'
        if all(len(part) < 6 or len(part) % 2 for part in mask):
            return 'has a segmentation without a polygon of three points, [[x1, y1, x2, y2, x3, y3, ...]]'
        return None
    if not isinstance(mask, dict) or not isinstance(mask.get('counts'), (list, str)):
        return 'has a segmentation that is neither polygons nor a run-length code, dict(size=..., counts=...)'
    if mask.get('size') != [height, width]:
        return f'has a run-length code of size {mask.get("size")}, its image [{height}, {width}]'
    if not use.rle and not ann.get('iscrowd'):
        return 'has a run-length code, which LoadAnnotations drops: set its poly2mask=True'
    return None


def _is_kept(ann: dict, width: float, height: float) -> bool:
    """Whether mmdet trains on it (``CocoDataset.parse_data_info``)."""
    x, y, w, h = ann['bbox']
    inside = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
    return inside and ann['area'] > 0 and w >= 1 and h >= 1


def _is_number(value: object) -> bool:
    return type(value) in _NUMBERS and math.isfinite(value)


def _value(entry: dict, key: str) -> str:
    return f'{key} {repr(entry[key])[:100]}' if key in entry else f'no {key!r}'
