"""Checks of detection data in COCO's format."""

import os

from mmengine.registry import TRANSFORMS

from a2mim_mm.data.coco_file import CocoUse, check_coco_file

from .classes import argument, base_class, type_name
from .part import Part


def reads_coco(kind: type | None) -> bool:
    """Whether a class reads files as mmdet's CocoDataset does. Those for LVIS and panoptic files do not."""
    coco = base_class(kind, 'CocoDataset')
    read_by = ('load_data_list', 'parse_data_info', 'COCOAPI')
    return coco is not None and all(getattr(kind, name) is getattr(coco, name) for name in read_by)


def check_coco(part: Part) -> list[str]:
    """Check an annotation file and its images; returns warnings."""
    step, dataset = part.step, part.dataset
    metrics = [] if part.split == 'train' else _metrics(part.cfg.get(f'{part.split}_evaluator'))
    loads_masks = step is not None and bool(argument(TRANSFORMS, step, 'with_mask'))
    use = CocoUse(
        classes=part.classes,
        labelled=step is not None and part.split != 'test',
        masks=loads_masks or any('segm' in one.get('metric', 'bbox') for one in metrics),
        rle=step is None or bool(argument(TRANSFORMS, step, 'poly2mask')),
        evaluated=bool(metrics),
    )
    names, warnings = check_coco_file(dataset.ann_file, use, dataset.backend_args)
    folder = part.folder('img')
    part.require_files([os.path.join(folder, name) for name in names], folder, 'images')
    read = os.path.realpath(dataset.ann_file)
    others = sorted({one['ann_file'] for one in metrics if os.path.realpath(one['ann_file']) != read})
    return warnings + [
        f'{part.split}_evaluator reads {other}, {part.loader} {dataset.ann_file}: their images must agree'
        for other in others
    ]


def _metrics(evaluators: dict | list | None) -> list[dict]:
    """The evaluators that give an annotation file to pycocotools."""
    listed = [evaluators] if isinstance(evaluators, dict) else evaluators or ()
    return [
        one
        for one in listed
        if type_name(one) == 'CocoMetric' and one.get('ann_file') and not one.get('format_only')
    ]
