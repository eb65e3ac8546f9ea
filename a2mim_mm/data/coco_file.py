"""Checks an annotation file in COCO's format for what mmdet would stumble over or misread in silence."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmengine import fileio

from a2mim_mm.errors import InputError

_NUMBERS = {int, float}  # as JSON gives them, without bool
_MIN_OUTSIDE = 0.05  # of the image's side: less is rounding
_MANY_OUTSIDE = 0.1  # of the boxes
_MANY_UNUSED = 0.01  # of the annotations: COCO itself has a few boxes below one pixel


@dataclass(frozen=True)
class CocoUse:
    """What one data set reads of an annotation file.

    Attributes:
        classes: ``metainfo.classes``, in their order.
        labelled: Whether annotations are loaded, so that there must be some.
        masks: Whether ``segmentation`` is loaded or evaluated.
        rle: Whether masks may be run-length codes. With ``poly2mask=False`` mmdet drops them in silence.
        evaluated: Whether pycocotools reads the file too; it needs ``iscrowd``.
    """

    classes: tuple[str, ...]
    labelled: bool = True
    masks: bool = False
    rle: bool = True
    evaluated: bool = False


def check_coco_file(path: str, use: CocoUse, backend_args: dict | None = None) -> tuple[list[str], list[str]]:
    """Read an annotation file once and check all of it; the time is linear in its length.

    Args:
        path: The file.
        use: What the data set reads of it.
        backend_args: Arguments of mmengine's file backend.

    Returns:
        The names of the images, and warnings.

    Raises:
        ValueError: At the first fault. The message names the file, the entry and the remedy.
        FileNotFoundError: If there is no such file.
    """
    content = _read(path, backend_args)
    for name in ('images', 'categories', *(('annotations',) if use.labelled else ())):
        if not isinstance(content.get(name), list) or not content[name]:
            raise InputError(f'{path} needs {name!r}, a list with at least one entry')
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

    mmdet leaves out the categories that the classes do not name, numbers the others in the order of the
    *file*, and takes number k for class k.

    Returns:
        A warning if categories are left out.

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
            f'{path} has no category {absent[0]!r}, which metainfo.classes names; it has {listed}. '
            'Write the same names: mmdet leaves out the others and numbers the rest anew'
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
        raise InputError(f'{path} is not JSON: {error}') from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}, not COCO's 'images', 'annotations', 'categories'"
        )
    return content


def _name(entry: object) -> str:
    """How to find an entry: its id, or the entry itself."""
    return repr(entry['id']) if isinstance(entry, dict) and 'id' in entry else repr(entry)[:100]


def _image_problem(image: dict, sizes: dict) -> str | None:
    if not isinstance(image, dict):
        return 'is not a dictionary'
    if not isinstance(image.get('id'), (int, str)):
        return f'has {_value(image, "id")}: write a number'
    for key in ('width', 'height'):
        if not _is_number(image.get(key)) or image[key] <= 0:
            return f'has {_value(image, key)}: write its size in pixels'
    if not isinstance(image.get('file_name'), str):
        return f'has {_value(image, "file_name")}: write a path below the folder of the images'
    if image['id'] in sizes:
        return 'occurs twice: give each entry its own id'
    return None


def _check_annotations(path: str, content: dict, sizes: dict, use: CocoUse) -> list[str]:
    """Check each annotation, then all of them together; returns warnings."""
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
            f'{path}: mmdet uses none of its {total} annotations of the classes. Each has a box outside '
            'of its image or below one pixel, an area of 0, or iscrowd 1. Write each bbox as '
            '[x, y, width, height], in pixels'
        )
    if outside > _MANY_OUTSIDE * total and corners:
        raise InputError(
            f'{path}: {outside} of {total} boxes end outside of their image and look like '
            '[x1, y1, x2, y2]: write each bbox as [x, y, width, height]'
        )
    warnings = []
    if outside > _MANY_OUTSIDE * total:
        warnings.append(f'{path}: {outside} of {total} boxes end outside of their image')
    if len(unused) > _MANY_UNUSED * total:
        warnings.append(
            f'{path}: mmdet leaves out {len(unused)} of {total} annotations, such as {unused[0]}. Their '
            'boxes are outside of the image or below one pixel, or their area is 0'
        )
    return warnings


def _annotation_problem(ann: dict, sizes: dict, known_ids: set, seen: set) -> str | None:
    if not isinstance(ann, dict):
        return 'is not a dictionary'
    for key in ('id', 'image_id', 'category_id'):
        if not isinstance(ann.get(key), (int, str)):
            return f'has {_value(ann, key)}: write a number'
    if ann['image_id'] not in sizes:
        return f"belongs to image {ann['image_id']!r}, but 'images' has no such id (a string or a number?)"
    if ann['category_id'] not in known_ids:
        return f"belongs to category {ann['category_id']!r}, but 'categories' has no such id"
    if ann['id'] in seen:
        return 'occurs twice: give each entry its own id'
    return None


def _box_problem(ann: dict) -> str | None:
    box = ann.get('bbox')
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f'has bbox {str(box)[:100]}: write [x, y, width, height], in pixels'
    if box[2] < 0 or box[3] < 0:
        return f'has bbox {box} with a negative size: write [x, y, width, height], in pixels'
    if not _is_number(ann.get('area')):
        return f'has {_value(ann, "area")}: write the area of the mask or of the box in pixels'
    return None


def _crowd_problem(ann: dict, use: CocoUse) -> str | None:
    if ann.get('iscrowd', None if use.evaluated else 0) not in (0, 1):
        return f'has {_value(ann, "iscrowd")}: write 0, or 1 for a crowd, which mmdet leaves out'
    return None


def _mask_problem(ann: dict, width: float, height: float, use: CocoUse) -> str | None:
    mask = ann.get('segmentation')
    if not mask:
        return f'has {_value(ann, "segmentation")}: write it, or train boxes alone, as docs/your_data.md says'
    if isinstance(mask, list):
        if not isinstance(mask[0], list):
            return 'has a flat list as segmentation: nest it, [[x1, y1, x2, y2, ...]]'
        if not all(isinstance(part, list) and _NUMBERS.issuperset(map(type, part)) for part in mask):
            return 'needs lists of numbers as segmentation, [[x1, y1, x2, y2, ...]]'
        if all(len(part) < 6 or len(part) % 2 for part in mask):
            return 'has no polygon of at least three points, [[x1, y1, x2, y2, x3, y3, ...]]'
        return None
    if not isinstance(mask, dict) or not isinstance(mask.get('counts'), (list, str)):
        return 'needs polygons or a run-length code, dict(size=..., counts=...), as segmentation'
    if mask.get('size') != [height, width]:
        return f'has a run-length code of size {mask.get("size")}, but its image is [{height}, {width}]'
    if not use.rle and not ann.get('iscrowd'):
        return 'has a run-length code, which LoadAnnotations drops: set poly2mask=True there'
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
