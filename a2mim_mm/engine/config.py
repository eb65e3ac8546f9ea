"""Reading a config, changing values in it, and checking what it describes."""

import argparse
import difflib
import importlib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from a2mim_mm.errors import InputError
from a2mim_mm.quiet import import_data_sets

from .machine import fit_to_cpu
from .named_settings import NAMED, set_by_name

PACKAGE = Path(__file__).resolve().parents[1]
# Keys of a config that are not arguments of the Runner, but are read by a library or this package.
_CONFIG_KEYS = (
    'activation_checkpointing',
    'amp_dtype',
    'compile',
    'custom_imports',
    'default_scope',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'fresh_params',
    'model_wrapper_cfg',
    'pretrained_parts',
    'runner_type',
    'start',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
)
# Settings that count something, so that 2.5 makes no sense.
_COUNTS = (
    'batch_size',
    'num_workers',
    'max_epochs',
    'max_iters',
    'accumulative_counts',
    'repeats',
    'interval',
)
# How Python and mmengine report a missing part of the stack.
NOT_INSTALLED = re.compile(r"(^|')(mmdet|mmseg|mmcv\._ext)\b")


def load_config(path: str, options: Sequence[str] | None = None) -> Config:
    """Read a config and overwrite values in it.

    ``settings = dict(image_size=96, ...)`` in a config sets the same names as the options do, with the last
    word over what the files say elsewhere.

    Args:
        path: The config file.
        options: ``NAME=VALUE`` as ``--cfg-options`` takes them. The name is dotted, or one of
            :data:`.named_settings.NAMED`. A dotted name has the last word.

    Raises:
        ValueError: If the file cannot be read as a config, if an option names a section that does not exist,
            or if its value has another type than the one it replaces.
    """
    if not Path(path).is_file():
        raise InputError(f'there is no config file {path}')
    try:
        cfg = Config.fromfile(path)
    except SyntaxError as error:
        raise InputError(f'config {path} is not valid Python: {error.msg}, line {error.lineno}') from error
    except (AssertionError, ImportError, KeyError, NameError, TypeError, ValueError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and NOT_INSTALLED.search(str(error)):
            raise
        raise InputError(
            f'config {path} cannot be read: {type(error).__name__}: {error}{_base_advice(error)}'
        ) from error
    for name, value in (cfg.pop('settings', None) or {}).items():
        set_by_name(cfg, name, value)
    values = {}
    for option in options or ():
        name, _, text = option.partition('=')
        if name in NAMED:
            set_by_name(cfg, name, _value(option, text, None))
            continue
        values[name] = _value(option, text, _value_at(cfg, name))
        _check_section(cfg, path, name.partition('.')[0])
    try:
        cfg.merge_from_dict(values)
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f'--cfg-options cannot be merged into {path}: {error}') from error
    return cfg


def _check_section(cfg: Config, path: str, section: str) -> None:
    """Refuse a section that nothing reads, because setting it would change nothing."""
    known = {*inspect.signature(Runner.__init__).parameters, *_CONFIG_KEYS}
    if section in known:
        return
    if section in cfg:
        raise InputError(
            f'--cfg-options: {section!r} is a variable that {path} used while it was read, so setting it now '
            'would change nothing: set it in a config file, or name the place of its value, such as '
            'train_dataloader.dataset.data_root'
        )
    near = difflib.get_close_matches(section, known, n=3)
    raise InputError(
        f'--cfg-options: the config has no {section!r}'
        + (f'; did you mean {" or ".join(near)}?' if near else '')
    )


def _value_at(cfg: Config, name: str) -> object:
    """The value at a dotted name, in which numbers are places in lists; None if it does not exist."""
    node = cfg._cfg_dict
    for part in name.split('.'):
        try:
            node = node[int(part)] if isinstance(node, (list, tuple)) else node.get(part)
        except (AttributeError, ValueError, IndexError):
            return None
    return node


def _value(option: str, text: str, old: object) -> object:
    """The value of an option, read as mmengine reads it and checked against the value that it replaces."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--option', nargs=1, action=DictAction)
    try:
        (value,) = parser.parse_args([f'--option={option}']).option.values()
    except (ValueError, AssertionError) as error:
        raise InputError(f'--cfg-options takes NAME=VALUE, got {option!r} ({error})') from error
    name = option.partition('=')[0]
    if isinstance(old, str) and value is not None and text[:1] not in '[({':
        return text  # a name stays a name: 2024 may be a folder, and so may a,b
    kind = next((kind for kind in (bool, int, float, dict) if isinstance(old, kind)), None)
    wrong = {
        bool: isinstance(value, str),
        int: isinstance(value, (str, bool)) or (isinstance(value, float) and name.endswith(_COUNTS)),
        float: isinstance(value, (str, bool)),
        dict: isinstance(value, (str, int, float)),
    }
    if wrong.get(kind, False):
        raise InputError(f'--cfg-options: {name} is {old!r} and cannot become {text!r}, of another type')
    return value


def _base_advice(error: Exception) -> str:
    """How a config in another folder inherits from one of this package, if the error is about ``_base_``."""
    if not isinstance(error, FileNotFoundError) and 'a2mim_mm config' not in str(error):
        return ''
    example = (PACKAGE / '.mim' / 'configs' / 'selfsup' / 'a2mim_vit-s.py').resolve()
    return f". A config in another folder needs the whole path in _base_, such as _base_ = '{example}'"


def require(cfg: Config, names: tuple[str, ...], task: str) -> None:
    """Check that a config has the parts that a tool needs, and that its library is installed.

    Raises:
        ValueError: If parts are missing. The message names them.
        ModuleNotFoundError: If the config needs mmdet or mmseg, and it is not installed.
    """
    if cfg.get('default_scope') in ('mmdet', 'mmseg'):
        importlib.import_module(cfg.default_scope)
        import_data_sets(cfg.default_scope)
    absent = [name for name in names if cfg.get(name) is None]
    if absent:
        raise InputError(f'config {cfg.filename} cannot be {task}: it has no {", ".join(absent)}')


def check_channels(cfg: Config) -> None:
    """Check that loader, normalisation and backbone agree on the number of channels of the images.

    Raises:
        ValueError: If they do not, or if colours of images that are not BGR would be swapped.
    """
    backbone = cfg.model.get('backbone')
    channels = backbone.get('in_channels', backbone.get('in_chans', 3)) if isinstance(backbone, dict) else 3
    dataset = cfg.train_dataloader.get('dataset') or {}
    steps = [step for step in dataset.get('pipeline') or () if isinstance(step, dict)]
    loaders = {step.get('type'): step for step in steps}
    loader = loaders.get('a2mim_mm.LoadChannels')
    if channels != 3 and 'a2mim_mm.LoadImage' in loaders:
        raise InputError(
            f'model.backbone.in_channels is {channels}, but a2mim_mm.LoadImage always gives 3 channels: '
            f"leave in_channels out, or load with dict(type='a2mim_mm.LoadChannels', channels={channels})"
        )
    if loader is None:
        return
    if loader.get('channels') != channels:
        raise InputError(
            f'LoadChannels has channels={loader.get("channels")}, but the first layer of the backbone takes '
            f'{channels}: write both as the images have it (model.backbone.in_channels, or in_chans of timm)'
        )
    _check_normalisation(cfg.get('data_preprocessor') or cfg.model.get('data_preprocessor') or {}, channels)


def _check_normalisation(preprocessor: dict, channels: int) -> None:
    """Check that a pre-processor suits images of LoadChannels."""
    for name in ('mean', 'std'):
        if name in preprocessor and len(preprocessor[name]) != channels:
            raise InputError(
                f'data_preprocessor.{name} has {len(preprocessor[name])} values for images of {channels} '
                f'channels: write {channels} values'
            )
    settings = {**preprocessor, **preprocessor.get('base', {})}
    swaps = [name for name in ('to_rgb', 'bgr_to_rgb', 'rgb_to_bgr') if settings.get(name)]
    if swaps:
        raise InputError(
            f'data_preprocessor.{swaps[0]} is True, but LoadChannels keeps the order of the file: leave '
            'it out'
        )


def model_config(cfg: Config) -> dict:
    """The config of a model as a Runner would build it on this machine. Its scope becomes the default."""
    fit_to_cpu(cfg)
    scope = cfg.get('default_scope', 'mmpretrain')
    init_default_scope(scope)
    return {'_scope_': scope, 'data_preprocessor': cfg.get('data_preprocessor'), **cfg.model}
