"""Where a training writes and where it starts: work directory, checkpoint and first epoch."""

from pathlib import Path

from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.runner import Runner

from a2mim_mm.errors import InputError

_POINTER = 'last_checkpoint'  # mmengine's file with the path of the last checkpoint
_LEFT_BY_TRAINING = (_POINTER, 'epoch_*.pth', 'iter_*.pth', 'best_*.pth', '*/vis_data/scalars.json')


def set_work_dir(cfg: Config, work_dir: str | None) -> None:
    """Set where logs and checkpoints go: the option, the config's value, or ``work_dirs/CONFIG_NAME``."""
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(cfg.filename).stem)


def check_work_dir(cfg: Config, resume: str | None, overwrite: bool) -> None:
    """Check that the work directory does not hold another training.

    Args:
        cfg: Config with ``work_dir``.
        resume: As for :func:`set_start`. A resumed training writes where it wrote before.
        overwrite: Start again even if there is a training. The new training replaces its files one by one.

    Raises:
        ValueError: If there is a training in the folder. The message names a file that it left.
    """
    folder = Path(cfg.work_dir)
    found = [path for pattern in _LEFT_BY_TRAINING for path in folder.glob(pattern) if path.stat().st_size]
    if not found or resume is not None or cfg.get('resume', False):
        return
    if not overwrite:
        raise InputError(
            f'there is a training in {folder} already ({found[0].relative_to(folder)}): give --resume to '
            'continue it, --overwrite to replace it, or another --work-dir'
        )
    if get_rank() == 0:
        (folder / _POINTER).unlink(missing_ok=True)  # otherwise --resume would continue the old training


def set_start(cfg: Config, resume: str | None, pretrained: str | None = None) -> str:
    """Decide where training starts.

    Args:
        cfg: Config with ``work_dir``. This function sets its ``resume`` and ``load_from``.
        resume: Path of a checkpoint; 'auto' for the last one in ``work_dir``, if there is one; None for what
            the config says.
        pretrained: Path of a pre-trained backbone. It is ignored if the training resumes.

    Returns:
        A note: where the training starts.

    Raises:
        ValueError: If the checkpoint does not exist, if both ``pretrained`` and ``load_from`` of the config
            would fill the model, or if ``start`` of the config requires something else.
    """
    if resume is None and cfg.get('resume', False):
        resume = cfg.get('load_from') or 'auto'
    path = Path(resume).expanduser() if resume and resume != 'auto' else None
    if resume == 'auto':
        path = last_checkpoint(Path(cfg.work_dir))
    cfg.resume = path is not None
    if path is None:
        note = f'nothing to resume from in {cfg.work_dir}, ' if resume else ''
        if pretrained and cfg.get('load_from'):
            raise InputError(f'{note}--pretrained and load_from={cfg.load_from} exclude each other')
        source = pretrained or cfg.get('load_from')
        _check_start(cfg, source, note)
        return note + (f'starting from the weights in {source}' if source else 'starting from scratch')
    if not path.is_file():
        raise InputError(f'cannot resume: there is no checkpoint at {path}')
    cfg.load_from = str(path)
    return f'resuming from {path}' + (f', not starting from {pretrained}' if pretrained else '')


def _check_start(cfg: Config, source: str | None, note: str) -> None:
    """Check that a training starts as ``start`` in its config says: pre-trained or from scratch."""
    start = cfg.get('start')
    if start not in (None, 'pretrained', 'scratch'):
        raise InputError(f"start must be 'pretrained' or 'scratch', got {start!r}")
    if start == 'pretrained' and not source:
        raise InputError(
            f'{note}config {cfg.filename} starts from a pre-trained backbone: give --pretrained CHECKPOINT. '
            '--cfg-options start=scratch trains with the same recipe from random weights'
        )
    if start == 'scratch' and source:
        raise InputError(
            f"{note}config {cfg.filename} has start='scratch': leave out {source}, or set start=pretrained"
        )


def last_checkpoint(work_dir: Path) -> Path | None:
    """The last checkpoint that a training wrote into ``work_dir``; None if there is none."""
    note = work_dir / _POINTER
    if not note.is_file():
        return None
    noted = Path(note.read_text().strip())
    # The note has the path at the time of the training. The folder may have moved since, or be a copy.
    path = work_dir / noted.name if (work_dir / noted.name).is_file() else noted
    if not noted.name or not path.is_file():
        raise InputError(
            f'cannot resume: {note} names {str(noted)!r}, which does not exist. Name a checkpoint '
            f'(--resume PATH), or remove {note} to start from scratch'
        )
    return path


def check_epoch(runner: Runner) -> None:
    """Build the data set and check that an epoch has a batch, and that its crops differ between epochs.

    Some files, spread over the data set, must have the channels that the config says.

    Raises:
        ValueError: If ``drop_last`` leaves no batch, if a file has other channels, or if the sampler does not
            suit training.
    """
    loader = runner.train_loop.dataloader
    if not len(loader):
        raise InputError(
            f'the {len(loader.sampler)} images of a rank do not fill a batch of {loader.batch_size}, and '
            'train_dataloader.drop_last drops incomplete batches: set a smaller train_dataloader.batch_size '
            'or more train_dataloader.dataset.repeats'
        )
    # Imported here because it imports mmpretrain, which trainings of other libraries do not need.
    from a2mim_mm.data.channels import check_files, find_loader
    from a2mim_mm.data.dataset import check_keys, files_of
    from a2mim_mm.data.depth import warn_of_unused_bits
    from a2mim_mm.data.reading import spread

    for dataset in files_of(loader.dataset) or [loader.dataset]:
        check_files(dataset)
    check_keys(loader)
    for dataset in files_of(loader.dataset):
        any_depth = any(getattr(step, 'bits', None) for step in dataset.pipeline.transforms)
        if not any_depth and find_loader(dataset) is None:
            sample = spread(range(len(dataset)), count=64)
            warn_of_unused_bits([dataset.get_data_info(index)['img_path'] for index in sample])
