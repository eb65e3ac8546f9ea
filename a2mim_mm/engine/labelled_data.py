"""Labels of detection and segmentation: files, classes and heads agree, before anything is built."""

import importlib
import inspect
import os
from collections import Counter
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_rank
from mmengine.registry import DATASETS, MODELS, TRANSFORMS, Registry, init_default_scope
from PIL import Image

from a2mim_mm.data.coco_file import CocoUse, check_coco_file
from a2mim_mm.data.listing import absent_files, endings, endings_text
from a2mim_mm.data.mask_sample import check_masks
from a2mim_mm.errors import InputError, first_names

_CLASSIFIERS = ('bbox_head', 'mask_head', 'mask_iou_head', 'decode_head', 'auxiliary_head')
_OF_OTHER_LABELS = ('STDCHead',)  # learns boundaries
_IGNORED = 255  # mmseg's, where a head names no other


def check_labelled_data(cfg: Config, splits: tuple[str, ...] = ('train', 'val')) -> list[str]:
    """Check the data sets that a config of mmdet or mmseg names; on rank 0 alone, which tells the others.

    Looked at are mmdet's ``CocoDataset`` and mmseg's ``BaseSegDataset``, classes derived from them, and what
    wraps them. Other data sets, and configs of other libraries, pass.

    Args:
        cfg: The whole config.
        splits: Of 'train', 'val' and 'test', those that the run will read.

    Returns:
        What is worth a warning.

    Raises:
        ValueError: At the first fault, on every rank; one sentence with file, value and remedy.
    """
    if cfg.get('default_scope') not in ('mmdet', 'mmseg'):
        return []
    warnings, fault = [], None
    if get_rank() == 0:
        try:
            warnings = _check(cfg, splits)
        except (ValueError, OSError) as error:
            fault = str(error)
    told = [warnings, fault]
    broadcast_object_list(told)
    warnings, fault = told
    if fault is not None:
        raise InputError(fault)
    return warnings


def _check(cfg: Config, splits: tuple[str, ...]) -> list[str]:
    init_default_scope(cfg.default_scope)
    importlib.import_module(f'{cfg.default_scope}.datasets')
    warnings, first = [], None
    for split in splits:
        loader = f'{split}_dataloader'
        for leaf in _leaves((cfg.get(loader) or {}).get('dataset') or {}):
            kind = _class_of(DATASETS, leaf)
            if not _reads_coco(kind) and _base(kind, 'BaseSegDataset') is None:
                continue
            dataset = _build_unread(leaf, kind, loader)
            if dataset is None:
                warnings.append(f'{loader}: {leaf["type"]} is not checked, as it takes no lazy_init')
                continue
            classes = tuple(dataset.metainfo.get('classes') or ())
            if not getattr(dataset, 'return_classes', False):  # else a text, of any classes
                _compare_to_heads(cfg.model, classes, loader)
                first = first or (loader, classes)
            if first and classes != first[1]:
                raise InputError(
                    f'{first[0]} has the classes {first_names(first[1])}, {loader} {first_names(classes)}: '
                    'write the same metainfo.classes, in the same order'
                )
            step = _loading_step(leaf)
            if _reads_coco(kind):
                warnings += _check_coco(cfg, split, dataset, step)
            else:
                warnings += _check_segmentation(cfg, dataset, step, loader)
    return warnings


def _leaves(dataset: dict) -> Iterator[dict]:
    """The data sets inside ConcatDataset, RepeatDataset, MultiImageMixDataset and the like."""
    if 'datasets' in dataset:
        for one in dataset['datasets']:
            yield from _leaves(one)
    elif isinstance(dataset.get('dataset'), dict):
        yield from _leaves(dataset['dataset'])
    elif dataset:
        yield dataset


def _class_of(registry: Registry, cfg: dict) -> type | None:
    kind = cfg.get('type')
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(None) as scoped:
        return scoped.get(kind)


def _base(kind: type | None, name: str) -> type | None:
    """The class of that name that a class derives from."""
    return next((one for one in getattr(kind, '__mro__', ()) if one.__name__ == name), None)


def _reads_coco(kind: type | None) -> bool:
    """Whether it is a CocoDataset, or one with other classes: LVIS and panoptic files are read otherwise."""
    coco = _base(kind, 'CocoDataset')
    read_by = ('load_data_list', 'parse_data_info', 'COCOAPI')
    return coco is not None and all(getattr(kind, name) is getattr(coco, name) for name in read_by)


def _build_unread(leaf: dict, kind: type, loader: str):
    """The data set without its list, so that it says by itself where its files are; None if it cannot."""
    classes = (leaf.get('metainfo') or {}).get('classes')
    if isinstance(classes, str):
        classes = kind._load_metainfo(dict(classes=classes))['classes']  # it may name a file of them
        if isinstance(classes, str):
            raise InputError(
                f'{loader}: metainfo.classes is the string {classes!r}, which would be taken for one class a '
                f'letter: write ({classes!r},), with a comma'
            )
    try:
        return DATASETS.build(dict(leaf, pipeline=[], lazy_init=True))
    except TypeError as error:
        if 'lazy_init' in str(error):
            return None
        raise InputError(f'{loader}.dataset: {error}') from error
    except (ValueError, AssertionError) as error:
        reason = str(error) or f'files that it needs are not in data_root={leaf.get("data_root")!r}'
        raise InputError(f'{loader}: {leaf["type"]} cannot be built: {reason}') from error


def _loading_step(leaf: dict) -> dict | None:
    """The step of the pipeline that loads annotations, with all of its arguments; None if there is none."""
    for step in leaf.get('pipeline') or ():
        if isinstance(step, dict) and _base(_class_of(TRANSFORMS, step), 'LoadAnnotations') is not None:
            return step
    return None


def _compare_to_heads(model: dict, classes: tuple[str, ...], loader: str) -> None:
    for name, head in _heads(model, 'model'):
        number = _argument(MODELS, head, 'num_classes')
        if classes and isinstance(number, int) and number != len(classes):
            raise InputError(
                f'{loader} has {len(classes)} classes ({first_names(classes)}), {name}.num_classes {number}: '
                f'write {name}.num_classes={len(classes)}, or name all classes in metainfo.classes'
            )


def _heads(node: dict | list, name: str) -> Iterator[tuple[str, dict]]:
    """The heads below a model that tell its classes apart, with their names in the config."""
    entries = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in entries:
        if isinstance(value, (dict, list, tuple)):
            below = f'{name}.{key}'
            if key in _CLASSIFIERS:
                heads = value if isinstance(value, (list, tuple)) else [value]
                for index, head in enumerate(heads):
                    if isinstance(head, dict) and _name_of(head) not in _OF_OTHER_LABELS:
                        yield (below if head is value else f'{below}.{index}'), head
            elif key == 'roi_head' or key == 'detector':
                yield from _heads(value, below)


def _argument(registry: Registry, cfg: dict, name: str) -> object:
    """An argument in a config, or its default; None if the class has neither."""
    if name in cfg:
        return cfg[name]
    for kind in getattr(_class_of(registry, cfg), '__mro__', ()):
        parameter = inspect.signature(kind.__init__).parameters.get(name)
        if parameter is not None:
            return None if parameter.default is parameter.empty else parameter.default
    return None


def _name_of(head: dict) -> str:
    kind = head.get('type')
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', '')


def _check_coco(cfg: Config, split: str, dataset, step: dict | None) -> list[str]:
    evaluators = _coco_metrics(cfg.get(f'{split}_evaluator')) if split != 'train' else []
    use = CocoUse(
        classes=tuple(dataset.metainfo['classes']),
        labelled=step is not None and split != 'test',
        masks=step is not None
        and bool(_argument(TRANSFORMS, step, 'with_mask'))
        or any('segm' in one.get('metric', 'bbox') for one in evaluators),
        rle=step is None or bool(_argument(TRANSFORMS, step, 'poly2mask')),
        evaluated=bool(evaluators),
    )
    names, warnings = check_coco_file(dataset.ann_file, use, dataset.backend_args)
    folder = dataset.data_prefix.get('img', '')
    _check_there([os.path.join(folder, name) for name in names], dataset, folder, 'images')
    others = {one['ann_file'] for one in evaluators if not _same_file(one['ann_file'], dataset.ann_file)}
    return warnings + [
        f'{split}_evaluator reads {other}, {split}_dataloader {dataset.ann_file}: their images must agree'
        for other in sorted(others)
    ]


def _check_segmentation(cfg: Config, dataset, step: dict | None, loader: str) -> list[str]:
    infos = dataset.load_data_list()
    folder, suffix = dataset.data_prefix.get('img_path', ''), getattr(dataset, 'img_suffix', '')
    listed = endings(folder) if dataset.backend_args is None else Counter()
    if not infos and dataset.ann_file:
        raise InputError(f'{loader}: the list {dataset.ann_file} is empty')
    if not infos:
        raise InputError(
            f'{loader}: no file in {folder} ends with {suffix!r}; there are {endings_text(listed) or 0}: '
            'set img_suffix, upper and lower case differ'
        )
    warnings = []
    _check_there([info['img_path'] for info in infos], dataset, folder, 'images')
    pictures = Counter({end: n for end, n in listed.items() if end.lower() in Image.registered_extensions()})
    masks_apart = dataset.data_prefix.get('seg_map_path') != folder
    if not dataset.ann_file and masks_apart and pictures.total() > len(infos):
        warnings.append(
            f'{loader}: of the images in {folder} ({endings_text(pictures)}), {len(infos)} end with '
            f'img_suffix {suffix!r}, the others are left out'
        )
    if step is None:
        return warnings
    if infos[0].get('seg_map_path') is None:
        raise InputError(f'{loader}: data_prefix.seg_map_path, the folder of the masks, is not set')
    masks = dataset.data_prefix.get('seg_map_path', '')
    _check_there([info['seg_map_path'] for info in infos], dataset, masks, 'masks (seg_map_suffix)')
    ignored = [_argument(MODELS, head, 'ignore_index') for _, head in _heads(cfg.model, 'model')]
    ignore = (
        set.intersection(*({_IGNORED if one is None else one} for one in ignored)) if ignored else {_IGNORED}
    )
    classes = dataset.metainfo.get('classes') or _number_of_classes(cfg.model)
    if not classes:
        return warnings
    return warnings + check_masks(infos, TRANSFORMS.build(step), classes, ignore)


def _number_of_classes(model: dict) -> int | None:
    return next((_argument(MODELS, head, 'num_classes') for _, head in _heads(model, 'model')), None)


def _check_there(paths: list[str], dataset, folder: str, what: str) -> None:
    """Refuse a data set, on this machine's disks, that lacks a file it lists."""
    absent = absent_files(paths) if dataset.backend_args is None else []
    if absent:
        raise InputError(
            f'{len(absent)} of {len(paths)} {what} are not there, such as {absent[0]}; {folder} holds '
            f'{endings_text(endings(folder)) or "no file"}: mend data_root, data_prefix, names or endings'
        )


def _coco_metrics(evaluators: dict | list | None) -> list[dict]:
    """The evaluators that hand an annotation file to pycocotools."""
    listed = [evaluators] if isinstance(evaluators, dict) else evaluators or ()
    return [
        one
        for one in listed
        if _name_of(one) == 'CocoMetric' and one.get('ann_file') and not one.get('format_only')
    ]


def _same_file(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
