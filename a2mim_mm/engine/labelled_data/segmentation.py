"""Checks of segmentation data: images and masks in two folders."""

from collections import Counter

from mmengine.registry import MODELS, TRANSFORMS
from PIL import Image

from a2mim_mm.data.listing import endings, endings_text
from a2mim_mm.data.mask_sample import check_masks
from a2mim_mm.errors import InputError

from .classes import argument, heads
from .part import Part

_IGNORED = 255  # what mmseg ignores if a head names no other value


def check_segmentation(part: Part) -> list[str]:
    """Check that images and masks exist, and the values of some masks; returns warnings."""
    infos = part.dataset.load_data_list()
    warnings = _check_images(part, infos)
    if part.step is None:
        return warnings
    if infos[0].get('seg_map_path') is None:
        raise InputError(f'{part.loader}: set data_prefix.seg_map_path, the folder of the masks')
    masks = [info['seg_map_path'] for info in infos]
    part.require_files(masks, part.folder('seg_map_path'), 'masks (seg_map_suffix)')
    found = [head for _, head in heads(part.cfg.model)]
    classes = part.classes or next((argument(MODELS, head, 'num_classes') for head in found), None)
    if not classes:
        return warnings
    ignored = [argument(MODELS, head, 'ignore_index') for head in found] or [None]
    ignore = set.intersection(*({_IGNORED if value is None else value} for value in ignored))
    return warnings + check_masks(infos, TRANSFORMS.build(part.step), classes, ignore)


def _check_images(part: Part, infos: list[dict]) -> list[str]:
    """Check that there are images, and say which ones the data set leaves out."""
    dataset, folder = part.dataset, part.folder('img_path')
    suffix = getattr(dataset, 'img_suffix', '')
    listed = endings(folder) if dataset.backend_args is None else Counter()
    if not infos and dataset.ann_file:
        raise InputError(f'{part.loader}: the list {dataset.ann_file} is empty')
    if not infos:
        raise InputError(
            f'{part.loader}: no file in {folder} ends with {suffix!r}, it holds '
            f'{endings_text(listed) or "no files"}: set img_suffix; upper and lower case differ'
        )
    part.require_files([info['img_path'] for info in infos], folder, 'images')
    pictures = Counter({end: n for end, n in listed.items() if end.lower() in Image.registered_extensions()})
    apart = part.folder('seg_map_path') != folder
    if dataset.ann_file or not apart or pictures.total() <= len(infos):
        return []
    return [
        f'{part.loader}: of the images in {folder} ({endings_text(pictures)}), {len(infos)} end with '
        f'img_suffix {suffix!r}, and the others are left out'
    ]
