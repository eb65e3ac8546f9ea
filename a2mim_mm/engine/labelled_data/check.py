"""Finds the data sets that a config names, compares their classes, and hands each one to its own check."""

import importlib
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_rank
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope

from a2mim_mm.errors import InputError, first_names

from .classes import base_class, class_of, compare_to_heads
from .coco import check_coco, reads_coco
from .part import Part
from .segmentation import check_segmentation


def check_labelled_data(cfg: Config, splits: tuple[str, ...] = ('train', 'val')) -> list[str]:
    """Check the data sets of an mmdet or mmseg config before they are built.

    The checks cover mmdet's ``CocoDataset``, mmseg's ``BaseSegDataset``, and classes that derive from these,
    inside wrappers too. Other data sets and the configs of other libraries pass. Rank 0 reads the files and
    tells the other ranks what it found.

    Args:
        cfg: The whole config.
        splits: The splits that the run reads: 'train', 'val' or 'test'.

    Returns:
        Warnings.

    Raises:
        ValueError: At the first fault, on every rank. The message names file, value and remedy.
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
            check = _check_of(class_of(DATASETS, leaf))
            if check is None:
                continue
            dataset = _build_unread(leaf, loader)
            if dataset is None:
                warnings.append(f'{loader}: {leaf["type"]} is not checked, because it takes no lazy_init')
                continue
            part = Part(cfg, split, dataset, _loading_step(leaf))
            if not getattr(dataset, 'return_classes', False):  # such data give the classes as a text
                compare_to_heads(cfg.model, part.classes, loader)
                first = first or part
            if first and part.classes != first.classes:
                raise InputError(
                    f'{first.loader} has the classes {first_names(first.classes)}, {loader} '
                    f'{first_names(part.classes)}: write the same metainfo.classes, in the same order'
                )
            warnings += check(part)
    return warnings


def _check_of(kind: type | None):
    """The function that checks data sets of a class; None if nothing does."""
    if reads_coco(kind):
        return check_coco
    return check_segmentation if base_class(kind, 'BaseSegDataset') else None


def _leaves(dataset: dict) -> Iterator[dict]:
    """The data sets inside ConcatDataset, RepeatDataset, MultiImageMixDataset and similar wrappers."""
    if 'datasets' in dataset:
        for one in dataset['datasets']:
            yield from _leaves(one)
    elif isinstance(dataset.get('dataset'), dict):
        yield from _leaves(dataset['dataset'])
    elif dataset:
        yield dataset


def _build_unread(leaf: dict, loader: str):
    """The data set without its list of samples, to ask where its files are; None if it takes no lazy_init."""
    classes = (leaf.get('metainfo') or {}).get('classes')
    if isinstance(classes, str):  # the text may name a file of classes
        classes = class_of(DATASETS, leaf)._load_metainfo(dict(classes=classes))['classes']
        if isinstance(classes, str):
            raise InputError(
                f'{loader}: metainfo.classes is the string {classes!r}, and each letter would become a '
                f'class: write ({classes!r},), with a comma'
            )
    try:
        return DATASETS.build(dict(leaf, pipeline=[], lazy_init=True))
    except TypeError as error:
        if 'lazy_init' in str(error):
            return None
        raise InputError(f'{loader}.dataset: {error}') from error
    except (ValueError, AssertionError) as error:
        reason = str(error) or f'data_root={leaf.get("data_root")!r} lacks files that it needs'
        raise InputError(f'{loader}: {leaf["type"]} cannot be built: {reason}') from error


def _loading_step(leaf: dict) -> dict | None:
    """The step of the pipeline that loads annotations; None if there is none."""
    for step in leaf.get('pipeline') or ():
        if isinstance(step, dict) and base_class(class_of(TRANSFORMS, step), 'LoadAnnotations'):
            return step
    return None
