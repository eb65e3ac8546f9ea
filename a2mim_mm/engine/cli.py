"""What the command-line tools share: reading a config, finding a checkpoint, saying what is wrong."""

import argparse
import difflib
import importlib
import inspect
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.dist import get_rank
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

from a2mim_mm.quiet import import_data_sets
from a2mim_mm.registry import MODELS

from .launch import fit_to_cpu, leave_distributed

PACKAGE = Path(__file__).resolve().parents[1]
# Keys that the Runner, mmpretrain, mmdet or this package read from a config, beside the Runner's arguments.
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
# Settings that count something: 2.5 of them makes no sense.
_COUNTS = (
    'batch_size',
    'num_workers',
    'max_epochs',
    'max_iters',
    'accumulative_counts',
    'repeats',
    'interval',
)
_POINTER = 'last_checkpoint'  # mmengine's note of what training saved last
_LEFT_BY_TRAINING = (_POINTER, 'epoch_*.pth', 'iter_*.pth', 'best_*.pth', '*/vis_data/scalars.json')
# The last frame and the message in the text of an error that PyTorch passes on from a worker.
_IN_WORKER = re.compile(
    r'^Caught \w+ in .*'
    r'\n  File "(?P<file>[^"\n]+)", line (?P<number>\d+), in [^\n]*\n    (?P<line>[^\n]*)(?:\n[^\n]*[~^]+)?'
    r'\n(?P<type>[\w.]+): (?P<message>.*)',
    re.DOTALL,
)
# How Python and mmengine name a part of the stack that is not there.
_NOT_INSTALLED = re.compile(r"(^|')(mmdet|mmseg|mmcv\._ext)\b")


def load_config(path: str, options: Sequence[str] | None = None) -> Config:
    """Read a config and overwrite values in it.

    Args:
        path: The config file.
        options: ``NAME=VALUE``, the name dotted, as ``--cfg-options`` has them.

    Raises:
        ValueError: If the file cannot be read as a config; if an option names a section that does not exist,
            or has a value of another type than the one it replaces.
    """
    if not Path(path).is_file():
        raise ValueError(f'there is no config file {path}')
    try:
        cfg = Config.fromfile(path)
    except SyntaxError as error:
        raise ValueError(f'config {path} is no valid Python: {error.msg}, line {error.lineno}') from error
    except (AssertionError, ImportError, KeyError, NameError, TypeError, ValueError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and _NOT_INSTALLED.search(str(error)):
            raise
        raise ValueError(
            f'config {path} cannot be read: {type(error).__name__}: {error}{_base_advice(error)}'
        ) from error
    known = {*inspect.signature(Runner.__init__).parameters, *_CONFIG_KEYS}
    values = {}
    for option in options or ():
        name, _, text = option.partition('=')
        values[name] = _value(option, text, _value_at(cfg, name))
        section = name.partition('.')[0]
        if section in cfg and section not in known:
            raise ValueError(
                f'--cfg-options: {section!r} is a variable that {path} used while it was read, to set it now '
                'would change nothing: set it in a config file, or name where its value went, such as '
                'train_dataloader.dataset.data_root'
            )
        if section not in known:
            near = difflib.get_close_matches(section, known, n=3)
            raise ValueError(
                f'--cfg-options: the config has no {section!r}'
                + (f'; did you mean {" or ".join(near)}?' if near else '')
            )
    try:
        cfg.merge_from_dict(values)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f'--cfg-options cannot be merged into {path}: {error}') from error
    return cfg


def _value_at(cfg: Config, name: str) -> object:
    """The value of a dotted name, with numbers for places in lists; None where there is none."""
    node = cfg._cfg_dict
    for part in name.split('.'):
        try:
            node = node[int(part)] if isinstance(node, (list, tuple)) else node.get(part)
        except (AttributeError, ValueError, IndexError):
            return None
    return node


def _value(option: str, text: str, old: object) -> object:
    """The value of an option, read as mmengine reads it, where it can take the place of the old one."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--option', nargs=1, action=DictAction)
    try:
        (value,) = parser.parse_args([f'--option={option}']).option.values()
    except (ValueError, AssertionError) as error:
        raise ValueError(f'--cfg-options takes NAME=VALUE, got {option!r} ({error})') from error
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
        raise ValueError(f'--cfg-options: {name} is {old!r} and cannot become {text!r}, of another type')
    return value


def _base_advice(error: Exception) -> str:
    """How a config that lies elsewhere names one of this package, where an error is about ``_base_``."""
    if not isinstance(error, FileNotFoundError) and 'a2mim_mm config' not in str(error):
        return ''
    example = (PACKAGE / '.mim' / 'configs' / 'selfsup' / 'a2mim_vit-s.py').resolve()
    return (
        f". In a config that lies elsewhere, _base_ takes the whole path of one of ours: _base_ = '{example}'"
    )


def require(cfg: Config, names: tuple[str, ...], task: str) -> None:
    """Check that a config describes what a tool is to do, and that the library it is for is installed.

    Raises:
        ValueError: If a part is missing; names all of them.
        ModuleNotFoundError: If the config is for mmdet or mmseg, which is not there.
    """
    if cfg.get('default_scope') in ('mmdet', 'mmseg'):
        importlib.import_module(cfg.default_scope)
        import_data_sets(cfg.default_scope)
    absent = [name for name in names if cfg.get(name) is None]
    if absent:
        raise ValueError(f'config {cfg.filename} cannot be {task}: it has no {", ".join(absent)}')


def check_channels(cfg: Config) -> None:
    """See that a backbone takes the three channels that the images of this package have, grey ones too.

    Raises:
        ValueError: If its config says another number.
    """
    backbone = cfg.model.get('backbone')
    channels = backbone.get('in_channels', backbone.get('in_chans', 3)) if isinstance(backbone, dict) else 3
    dataset = cfg.train_dataloader.get('dataset') or {}
    steps = [step.get('type') for step in dataset.get('pipeline') or () if isinstance(step, dict)]
    if channels != 3 and 'a2mim_mm.LoadImage' in steps:
        raise ValueError(
            f'model.backbone.in_channels is {channels}, but a2mim_mm.LoadImage gives 3 channels, of grey '
            'images too: leave in_channels out'
        )


def build_model(cfg: Config) -> nn.Module:
    """The model of a config, its weights not initialised, as a Runner would build it on this machine."""
    fit_to_cpu(cfg)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model_cfg = cfg.model.copy()
    model_cfg.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    return MODELS.build(model_cfg)


def set_work_dir(cfg: Config, work_dir: str | None) -> None:
    """Where logs and checkpoints go: the option, else the config's, else ``work_dirs/CONFIG_NAME`` here."""
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(cfg.filename).stem)


def check_work_dir(cfg: Config, resume: str | None, overwrite: bool) -> None:
    """See that no other training is overwritten.

    Args:
        cfg: Config with ``work_dir``.
        resume: As for :func:`set_start`: a training that goes on may write where it wrote before.
        overwrite: Start anew all the same; what the earlier training wrote goes as the new one writes.

    Raises:
        ValueError: If there is a training in the folder; names what it left.
    """
    folder = Path(cfg.work_dir)
    found = [path for pattern in _LEFT_BY_TRAINING for path in folder.glob(pattern) if path.stat().st_size]
    if not found or resume is not None or cfg.get('resume', False):
        return
    if not overwrite:
        raise ValueError(
            f'there is a training in {folder} already ({found[0].relative_to(folder)}): give --resume to go '
            'on with it, --overwrite to start anew in its place, or another --work-dir'
        )
    if get_rank() == 0:
        (folder / _POINTER).unlink(missing_ok=True)  # else --resume would go on with the old training


def set_start(cfg: Config, resume: str | None, pretrained: str | None = None) -> str:
    """Decide where training starts.

    Args:
        cfg: Config with ``work_dir``; ``resume`` and ``load_from`` are set.
        resume: Path of a checkpoint; 'auto' for the last one in ``work_dir``, if any; None for what the
            config says.
        pretrained: Path of a pre-trained backbone, for a training that resumes from nothing.

    Returns:
        Where it starts.

    Raises:
        ValueError: If there is no checkpoint at the path, or the last one is gone; if ``pretrained`` and the
            config's ``load_from`` would both fill the model; if ``start`` in the config asks for another.
    """
    if resume is None and cfg.get('resume', False):
        resume = cfg.get('load_from') or 'auto'
    path = Path(resume).expanduser() if resume and resume != 'auto' else None
    if resume == 'auto':
        path = _last_checkpoint(Path(cfg.work_dir))
    cfg.resume = path is not None
    if path is None:
        note = f'nothing to resume from in {cfg.work_dir}, ' if resume else ''
        if pretrained and cfg.get('load_from'):
            raise ValueError(f'{note}--pretrained and load_from={cfg.load_from} exclude each other')
        source = pretrained or cfg.get('load_from')
        _check_start(cfg, source, note)
        return note + (f'starting from the weights in {source}' if source else 'starting from scratch')
    if not path.is_file():
        raise ValueError(f'cannot resume: there is no checkpoint at {path}')
    cfg.load_from = str(path)
    return f'resuming from {path}' + (f', not starting from {pretrained}' if pretrained else '')


def _check_start(cfg: Config, source: str | None, note: str) -> None:
    """Hold a training to its config's ``start``: from a pre-trained backbone, or from scratch."""
    start = cfg.get('start')
    if start not in (None, 'pretrained', 'scratch'):
        raise ValueError(f"start must be 'pretrained' or 'scratch', got {start!r}")
    if start == 'pretrained' and not source:
        raise ValueError(
            f'{note}config {cfg.filename} starts from a pre-trained backbone: give --pretrained CHECKPOINT. '
            '--cfg-options start=scratch trains by the same recipe from a random start'
        )
    if start == 'scratch' and source:
        raise ValueError(
            f"{note}config {cfg.filename} has start='scratch': leave out {source}, or set start=pretrained"
        )


def _last_checkpoint(work_dir: Path) -> Path | None:
    """The checkpoint that training in ``work_dir`` wrote last; None if there is none."""
    note = work_dir / _POINTER
    if not note.is_file():
        return None
    noted = Path(note.read_text().strip())
    # Noted as training saw it: the folder may be a copy, have moved, or the path be relative to another one.
    path = work_dir / noted.name if (work_dir / noted.name).is_file() else noted
    if not noted.name or not path.is_file():
        raise ValueError(
            f'cannot resume: {note} names {str(noted)!r}, which does not exist. Name a checkpoint '
            f'(--resume PATH), or remove {note} to start from scratch'
        )
    return path


def check_epoch(runner: Runner) -> None:
    """Build the data set and see that an epoch has a batch, and other crops than the one before.

    Raises:
        ValueError: If ``drop_last`` drops the only batch there is, or the sampler suits no training.
    """
    loader = runner.train_loop.dataloader
    if not len(loader):
        raise ValueError(
            f'the {len(loader.sampler)} images of a rank do not fill one batch of {loader.batch_size}, and '
            'train_dataloader.drop_last drops what is left over: set a smaller train_dataloader.batch_size '
            'or more train_dataloader.dataset.repeats'
        )
    # Imports mmpretrain, which not every training of every library needs.
    from a2mim_mm.data.dataset import check_keys, files_of
    from a2mim_mm.data.depth import warn_of_unused_bits
    from a2mim_mm.visualization import spread

    check_keys(loader)
    for dataset in files_of(loader.dataset):
        if not any(getattr(step, 'bits', None) for step in dataset.pipeline.transforms):
            sample = spread(range(len(dataset)), count=64)
            warn_of_unused_bits([dataset.get_data_info(index)['img_path'] for index in sample])


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f'.{path.name}.part')
    draft.write_text(json.dumps(content, indent=2) + '\n')
    draft.replace(path)


def run_tool(
    main: Callable[[], None], after_interrupt: str = 'training goes on from the last checkpoint with --resume'
) -> None:
    """Run a tool. What the user can mend ends in one message and exit status 1, the rest in a traceback.

    Args:
        main: The tool.
        after_interrupt: What to do after Ctrl-C.
    """
    try:
        main()
        leave_distributed()
    except (KeyboardInterrupt, Exception) as error:
        if _interrupted(error):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # torchrun passes on a second one
            sys.exit(_say(f'interrupted; {after_interrupt}', 130))
        message = user_message(error)
        if message is None:
            raise
        sys.exit(_say(f'error: {message}', 1))


def user_message(error: Exception) -> str | None:
    """The message of an error that the user's input caused; None if it may be a bug.

    These are the user's: what a check of this package, its tools or mmengine's
    registry raises by itself (its last frame is a ``raise``); arguments that a
    class does not have; files that cannot be opened; detection or segmentation
    where they are not installed.
    """
    frame, error = _origin(error)
    path = Path(frame.filename).resolve()
    ours = path.is_relative_to(PACKAGE) or 'tools' in path.parts[-3:-1]  # which may lie elsewhere
    checked = ours or path.parts[-3:-1] == ('mmengine', 'registry')
    raised = (frame.line or '').lstrip().startswith('raise ')
    misspelt = isinstance(error, TypeError) and 'unexpected keyword argument' in str(error)
    unopened = isinstance(
        error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
    )
    if isinstance(error, ModuleNotFoundError) and _NOT_INSTALLED.search(str(error)):
        return (
            f'{error}. Detection and segmentation need the whole stack: make install-test, or the lines of '
            'requirements/tests.txt (never beside the packages called mmdet and mmsegmentation)'
        )
    if (checked and raised) or misspelt or unopened:
        return str(error.args[0]) if isinstance(error, KeyError) else str(error)
    return None


def _origin(error: Exception) -> tuple[traceback.FrameSummary, Exception]:
    """Where an error was raised, and the error as it was there.

    PyTorch raises an error of a worker a second time, with the traceback of the first as its message.
    """
    frame = traceback.extract_tb(error.__traceback__)[-1]
    told = _IN_WORKER.search(str(error.args[0])) if error.args else None
    if told is None:
        return frame, error
    there = traceback.FrameSummary(told['file'], int(told['number']), '', line=told['line'])
    try:
        return there, type(error)(told['message'].strip())
    except TypeError:  # an error that takes more than a message
        return there, RuntimeError(told['message'].strip())


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: torch.save, cut short, raises one of its own."""
    return error is not None and (isinstance(error, KeyboardInterrupt) or _interrupted(error.__context__))


def _say(message: str, status: int) -> int:
    rank = os.environ.get('RANK', '0')
    print(('' if rank == '0' else f'[rank {rank}] ') + message, file=sys.stderr)
    return status
