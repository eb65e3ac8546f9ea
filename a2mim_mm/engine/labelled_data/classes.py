"""The classes that a config names, and the heads that tell labels apart."""

import inspect
from collections.abc import Iterator

from mmengine.registry import MODELS, Registry

from a2mim_mm.errors import InputError, first_names

_CLASSIFIERS = ('bbox_head', 'mask_head', 'mask_iou_head', 'decode_head', 'auxiliary_head')
_OF_OTHER_LABELS = ('STDCHead',)  # learns boundaries


def class_of(registry: Registry, cfg: dict) -> type | None:
    """The Python class that ``type`` names; None if the registry does not know it."""
    kind = cfg.get('type')
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(None) as scoped:
        return scoped.get(kind)


def base_class(kind: type | None, name: str) -> type | None:
    """The class of this name that ``kind`` derives from; None if it does not."""
    return next((one for one in getattr(kind, '__mro__', ()) if one.__name__ == name), None)


def argument(registry: Registry, cfg: dict, name: str) -> object:
    """An argument in a config, or its default; None if the class has neither."""
    if name in cfg:
        return cfg[name]
    for kind in getattr(class_of(registry, cfg), '__mro__', ()):
        parameter = inspect.signature(kind.__init__).parameters.get(name)
        if parameter is not None:
            return None if parameter.default is parameter.empty else parameter.default
    return None


def type_name(cfg: dict) -> str:
    """The name in ``type``, without a scope."""
    kind = cfg.get('type')
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', '')


def heads(node: dict | list, name: str = 'model') -> Iterator[tuple[str, dict]]:
    """The heads below a model that tell its classes apart, with their names in the config."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if not isinstance(value, (dict, list, tuple)):
            continue
        below = f'{name}.{key}'
        if key in ('roi_head', 'detector'):
            yield from heads(value, below)
        elif key in _CLASSIFIERS:
            named = (
                {below: value}
                if isinstance(value, dict)
                else {f'{below}.{i}': v for i, v in enumerate(value)}
            )
            for one, head in named.items():
                if isinstance(head, dict) and type_name(head) not in _OF_OTHER_LABELS:
                    yield one, head


def compare_to_heads(model: dict, classes: tuple[str, ...], loader: str) -> None:
    """Check that all heads have as many classes as the data."""
    for name, head in heads(model):
        number = argument(MODELS, head, 'num_classes')
        if classes and isinstance(number, int) and number != len(classes):
            raise InputError(
                f'{loader} has {len(classes)} classes ({first_names(classes)}), {name}.num_classes {number}: '
                f'write {name}.num_classes={len(classes)}, or name all classes in metainfo.classes'
            )
