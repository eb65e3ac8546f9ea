"""Prints a header of ten lines after all checks have passed, and then the first steps."""

import torch
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from a2mim_mm.checkpoints.load import unwrap
from a2mim_mm.registry import HOOKS

from ..console import consoles
from ..schedule import by_optimizer, counts_epochs, last_lr, length_text

_EARLY_STEPS = (1, 5, 20, 50)


@HOOKS.register_module()
class HeaderHook(Hook):
    """Prints what is about to run after all checks have passed, and then lines for some of the first steps.

    These lines do not wait for the interval of the log, so that the remaining time is known early.

    Args:
        notes: Titles and texts that only the tool knows, in the order in which they are shown.
    """

    priority = 'LOWEST'

    def __init__(self, notes: dict[str, str]) -> None:
        self.notes = notes
        self._steps = 0

    def before_train(self, runner: Runner) -> None:
        """Print the header of a training."""
        self._steps = 0
        self._print(
            runner,
            data=_data_text(runner.train_dataloader),
            validation=_data_text(runner.val_dataloader) if runner.val_loop is not None else '',
            steps=_steps_text(runner),
            lr=f'{self.notes.get("lr", "").removeprefix("lr ")}; {_lr_text(runner)}',
        )
        if runner.iter >= runner.max_iters:
            at = f'epoch {runner.epoch}' if counts_epochs(runner) else f'iteration {runner.iter}'
            runner.logger.info(
                f'already complete: {at} of {length_text(runner)}; train_cfg sets the length of a training'
            )

    def before_test(self, runner: Runner) -> None:
        """Print the header of a test."""
        self._print(runner, data=_data_text(runner.test_dataloader))

    def after_train_iter(self, runner: Runner, batch_idx: int, **_) -> None:
        """Print a line after some of the first steps, unless the log has just printed it."""
        self._steps += 1
        if self._steps in _EARLY_STEPS and not _just_logged(runner, batch_idx):
            runner.logger.info(runner.log_processor.get_log_after_iter(runner, batch_idx, 'train')[1])

    def _print(self, runner: Runner, **texts: str) -> None:
        if runner.rank == 0:
            for handler in consoles(runner.logger):
                handler.setLevel(runner.cfg.get('log_level', 'INFO'))
        lines = {
            'config': runner.cfg.filename,
            'model': _model_text(unwrap(runner.model)),
            'found': getattr(unwrap(runner.model), 'found', ''),
            **texts,
            **{title: text for title, text in self.notes.items() if title not in texts},
            'log': f'{runner.logger.log_file}, with config and environment',
        }
        runner.logger.info('\n' + '\n'.join(f'  {title:<11}{text}' for title, text in lines.items() if text))


def _just_logged(runner: Runner, batch_idx: int) -> bool:
    return any(
        isinstance(hook, LoggerHook)
        and (
            hook.every_n_inner_iters(batch_idx, hook.interval)
            or hook.end_of_epoch(runner.train_dataloader, batch_idx)
        )
        for hook in runner.hooks
    )


def _model_text(model: torch.nn.Module) -> str:
    sizes = [(param.numel(), param.requires_grad) for param in model.parameters()]
    total, trained = sum(size for size, _ in sizes), sum(size for size, grad in sizes if grad)
    names = [type(model).__name__]
    if hasattr(model, 'backbone'):
        names.append(type(model.backbone).__name__)
    text = f'{" of ".join(names)}, {total:,} parameters'
    return text if trained == total else f'{text}, {trained:,} of them trained'


def _data_text(loader: DataLoader) -> str:
    dataset = loader.dataset
    repeats = getattr(dataset, 'repeats', 1)
    text = f'{len(dataset) // repeats:,} images' + (f' x {repeats} repeats' if repeats > 1 else '')
    where = getattr(dataset, 'data_root', None) or getattr(dataset, 'ann_file', None)
    return f'{text} in {where}' if where else text


def _steps_text(runner: Runner) -> str:
    if not counts_epochs(runner):
        return f'{runner.max_iters:,}'
    length = len(runner.train_dataloader)
    return f'{runner.max_epochs:,} epochs x {length:,} = {runner.max_iters:,}'


def _lr_text(runner: Runner) -> str:
    rates = [last_lr(runner, wrapper, schedulers) for wrapper, schedulers in by_optimizer(runner)]
    return 'at the last step ' + ' and '.join(f'{rate:.3g}' for rate in rates)
