"""The config inside a checkpoint, read as data: its text is parsed, never run, and builds networks only.

mmengine saves the config of a training as Python source. Executing it, or importing what its types name,
would let a checkpoint run code. So only literals and ``dict(...)`` are read, and only registered parts of
networks are built. None of these imports, opens or downloads anything that its arguments name.
"""

import ast
from collections.abc import Iterable, Sequence

from mmengine.registry import MODELS as MMENGINE_MODELS
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS

from a2mim_mm.registry import MODELS

from .errors import CheckpointError

_SECTIONS = ('model', 'data_preprocessor', 'train_dataloader')
_REGISTRIES = {
    '': (MMPRETRAIN_MODELS, MMENGINE_MODELS),
    'mmengine': (MMENGINE_MODELS,),
    'mmpretrain': (MMPRETRAIN_MODELS,),
    'a2mim_mm': (MODELS,),
}
# Where classes must come from. Other registered classes read files or talk to hubs while they are built.
_NETWORKS = (
    'torch.nn.',
    'mmcv.cnn.',
    'mmpretrain.models.backbones.',
    'mmpretrain.models.necks.',
    'mmpretrain.models.losses.',
    'mmpretrain.models.utils.',
    'a2mim_mm.models.',
    'a2mim_mm.backbones.',
    'a2mim_mm.transfer.',
)
# So does this one, and its arguments name things to import.
_NO_NETWORKS = ('mmpretrain.models.backbones.timm_backbone.',)
# Left out: other sources of weights, as all come from the checkpoint, and scopes, which mmengine imports.
_DROPPED = ('init_cfg', 'pretrained', 'checkpoint_path', '_scope_')


def read_saved_config(checkpoint: dict, source: str) -> dict:
    """The sections ``model``, ``data_preprocessor`` and ``train_dataloader`` of a checkpoint's config.

    Args:
        checkpoint: What the file holds.
        source: Where it comes from, for messages.

    Returns:
        The sections that exist, without entries that name other weights or scopes.

    Raises:
        CheckpointError: If there is no config with a model, or it holds more than values and ``dict(...)``.
    """
    meta = checkpoint.get('meta')
    text = meta.get('cfg') if isinstance(meta, dict) else None
    if not isinstance(text, str):
        raise CheckpointError(
            f'{source} does not say how its network is built, unlike checkpoints of a training. Say it: '
            "load_backbone(path, backbone=dict(type='ResNet', depth=50))"
        )
    try:
        statements = ast.parse(text).body
        sections = {
            statement.targets[0].id: _value(statement.value)
            for statement in statements
            if isinstance(statement, ast.Assign)
            and isinstance(statement.targets[0], ast.Name)
            and statement.targets[0].id in _SECTIONS
        }
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise CheckpointError(f'the config in {source} cannot be read as data: {error}') from error
    if not isinstance(sections.get('model'), dict):
        raise CheckpointError(f'the config in {source} has no model')
    return sections


def saved_input_size(saved: dict) -> tuple[int, int] | None:
    """Height and width of the crops of a training, from its saved config; None if that does not tell."""
    try:
        return training_size(saved_pipeline(saved))
    except (AttributeError, TypeError, KeyError, IndexError):
        return None


def saved_pipeline(saved: dict) -> list[dict]:
    """The training pipeline of a saved config; empty if it has none."""
    dataset = saved.get('train_dataloader')
    try:
        while 'pipeline' not in dataset:  # into wrappers such as RepeatDataset
            dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
        return dataset['pipeline']
    except (TypeError, KeyError, IndexError):
        return []


def channels_loader(pipeline: Sequence[dict]) -> dict | None:
    """Arguments of the ``LoadChannels`` of a pipeline: channels and value_range; None if there is none."""
    for step in pipeline:
        if isinstance(step, dict) and step.get('type') == 'a2mim_mm.LoadChannels':
            return {name: step.get(name) for name in ('channels', 'value_range')}
    return None


def _value(node: ast.expr) -> object:
    """The value of an expression of literals and ``dict(...)``.

    Raises:
        ValueError: If it is anything else. Names it.
    """
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        items = [(keyword.arg, _value(keyword.value)) for keyword in node.keywords]
        for mapping in node.args:  # dict({'a.b': 1}): mmengine writes keys like this if they are not names
            items += _items(mapping)
        return _dict(items)
    if isinstance(node, ast.Dict):
        return _dict(_items(node))
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    return ast.literal_eval(node)


def _items(node: ast.expr) -> list[tuple[object, object]]:
    if not isinstance(node, ast.Dict) or None in node.keys:
        raise ValueError(f'{ast.unparse(node)[:80]} is not a plain dict')
    return [(ast.literal_eval(key), _value(value)) for key, value in zip(node.keys, node.values, strict=True)]


def _dict(items: Iterable[tuple[object, object]]) -> dict:
    return {key: value for key, value in items if key not in _DROPPED}


def check_network(cfg: object, source: str) -> None:
    """Let through only configs that build nothing but parts of networks.

    Raises:
        CheckpointError: If a part is of a class that is not registered, or is not a part of a network.
    """
    values = cfg.values() if isinstance(cfg, dict) else cfg if isinstance(cfg, list) else ()
    for value in values:
        check_network(value, source)
    if isinstance(cfg, dict) and 'type' in cfg:
        kind = registered_class(cfg['type'])
        home = f'{getattr(kind, "__module__", "")}.'
        if not home.startswith(_NETWORKS) or home.startswith(_NO_NETWORKS):
            raise CheckpointError(
                f'the network in {source} has a part of type {cfg["type"]!r}, which is not registered as '
                'part of a network. load_backbone(path, backbone=dict(type=...)) builds what you trust'
            )


def registered_class(name: object) -> type | None:
    """The registered class of a name. Unlike a registry's own search, this imports nothing."""
    scope, _, key = name.rpartition('.') if isinstance(name, str) else ('', '', '')
    for registry in _REGISTRIES.get(scope, ()):
        registry.import_from_location()
        if key in registry.module_dict:
            return registry.module_dict[key]
    return None


def training_size(pipeline: Sequence[dict]) -> tuple[int, int] | None:
    """Height and width of the crop of a training pipeline; None if there is no RandomResizedCrop."""
    for step in pipeline:
        if step['type'].endswith('RandomResizedCrop'):
            scale = step['scale']
            return (scale, scale) if isinstance(scale, int) else tuple(scale[::-1])
    return None
