"""A training from its config to a Runner that is ready: checked, and fitted to this machine."""

from itertools import count
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from . import console, distributed, machine
from .config import check_channels, require
from .hooks import FiniteHook, HeaderHook, ScheduleHook, StrictLoadHook, start_from_pretrained
from .labelled_data import check_labelled_data
from .schedule import allow_short_training
from .start import check_epoch, check_work_dir, set_start, set_work_dir

_trainings = count(1)  # of this process


def build_training(
    cfg: Config,
    *,
    work_dir: str | None = None,
    resume: str | None = None,
    overwrite: bool = False,
    pretrained: str | None = None,
    amp: bool | None = None,
    launcher: str = 'none',
) -> Runner:
    """Fit a config to this machine and build its Runner, whose log says what was changed.

    Args:
        cfg: The config, which this function changes.
        work_dir: Where logs and checkpoints go; see :func:`.start.set_work_dir`.
        resume: A checkpoint to continue from, or 'auto'; see :func:`.start.set_start`.
        overwrite: Replace the training that the work dir holds.
        pretrained: A file of weights from which the backbone starts.
        amp: Mixed precision on or off; see :func:`.machine.set_precision`.
        launcher: What started the ranks: 'none', 'pytorch' or 'slurm'.

    Raises:
        ValueError: If the config cannot be trained as it is. The message names the value and the remedy.
        CheckpointError: If a checkpoint does not fit.
    """
    require(cfg, ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'), 'trained')
    cfg.launcher = launcher
    check_channels(cfg)
    set_work_dir(cfg, work_dir)
    check_work_dir(cfg, resume, overwrite)
    machine.fit_workers(cfg)
    cfg.setdefault('default_hooks', {}).setdefault('runtime_info', dict(type='a2mim_mm.OneLrHook'))
    notes = dict(
        ranks=distributed.init_distributed(cfg),
        precision=machine.set_precision(cfg, amp),
        replaced=machine.fit_to_cpu(cfg),
        lr=machine.scale_lr(cfg),
        start=set_start(cfg, resume, pretrained),
    )
    _name_apart(cfg)
    warnings = check_labelled_data(cfg)
    runner = console.build_runner(cfg)
    for warning in warnings:
        runner.logger.warning(warning)
    for hook in (FiniteHook(), ScheduleHook(), HeaderHook(notes)):
        runner.register_hook(hook)
    if cfg.resume:
        runner.register_hook(StrictLoadHook(cfg.load_from, resume=True))
    elif pretrained:
        start_from_pretrained(runner, pretrained)
    elif cfg.get('load_from'):
        remedy = f'. load_from needs a whole model; for a backbone use --pretrained {cfg.load_from}'
        runner.register_hook(StrictLoadHook(cfg.load_from, resume=False, remedy=remedy))
    check_epoch(runner)
    allow_short_training(runner)
    return runner


def _name_apart(cfg: Config) -> None:
    """Name a training after its config, and number it if it is not the first of this process.

    mmengine tells trainings apart by name and second. Two of one name within a second would share their log.
    """
    number = next(_trainings)
    if number > 1:
        cfg.setdefault('experiment_name', f'{Path(cfg.filename or "training").stem}_{number}')
