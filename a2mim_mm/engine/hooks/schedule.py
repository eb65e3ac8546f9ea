"""Keeps the schedule of the learning rate in step with the length of the training."""

import math

from mmengine.hooks import Hook
from mmengine.optim.scheduler import _ParamScheduler
from mmengine.runner import Runner

from a2mim_mm.registry import HOOKS

from ..schedule import base_group, batch_text, by_optimizer, counts_epochs, last_lr, length_text


@HOOKS.register_module()
class ScheduleHook(Hook):
    """Keeps a schedule in step with its training.

    Before the first step it warns if the two end at different times. A training may resume with epochs of
    another length, because the batch size, the number of ranks or the number of images changed. The hook then
    converts all counts of iterations, so that each epoch keeps its learning rate.
    """

    priority = 'HIGH'  # after StrictLoadHook has checked the checkpoint

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the length of an epoch, because mmengine does not."""
        checkpoint['meta'].update(epoch_length=len(runner.train_dataloader), batch=batch_text(runner))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Convert a resumed schedule to epochs of another length."""
        meta, length = checkpoint.get('meta', {}), len(runner.train_dataloader)
        if not (runner._resume and counts_epochs(runner) and meta['epoch']):
            return
        kept_length = meta.get('epoch_length', meta['iter'] / meta['epoch'])
        if kept_length == length:
            return
        meta['iter'] = meta['epoch'] * length
        for scheduler, state in _with_states(runner, checkpoint.get('param_schedulers') or []):
            if not scheduler.by_epoch:
                _move(state, scheduler, meta['iter'])
        runner.logger.warning(
            f'an epoch now has {length} iterations ({batch_text(runner)}), it had {kept_length:g} '
            f'({meta.get("batch", "when the checkpoint was written")}): the schedule is rescaled, training '
            f'continues after epoch {meta["epoch"]} with iteration {meta["iter"]} of {runner.max_iters}'
        )

    def before_train(self, runner: Runner) -> None:
        """Warn if schedule and training end at different times."""
        apart = _apart(runner)
        if apart:
            runner.logger.warning(
                f'the schedule does not fit a training of {length_text(runner)}: {"; ".join(apart)}. '
                f'The last lr will be {_last_lrs(runner)}. Set begin, end, T_max or milestones of '
                'param_scheduler together with the length in train_cfg'
            )


def _last_lrs(runner: Runner) -> str:
    texts = []
    for wrapper, schedulers in by_optimizer(runner):
        last = last_lr(runner, wrapper, schedulers)
        peak = base_group(wrapper).get('initial_lr', base_group(wrapper)['lr'])
        texts.append(f'{last:.3g}, {100 * last / peak:.3g} % of the configured {peak:.3g}')
    return ' and '.join(texts)


def _with_states(runner: Runner, states: list | dict) -> list[tuple[_ParamScheduler, dict]]:
    """The schedulers of a Runner, each with the state that a checkpoint has for it."""
    if isinstance(states, dict):
        return [
            pair for name in states for pair in zip(runner.param_schedulers[name], states[name], strict=False)
        ]
    return list(zip(runner.param_schedulers or [], states, strict=False))


def _move(state: dict, scheduler: _ParamScheduler, step: int) -> None:
    """Change a saved state into the state of ``scheduler``, which is new and has another length, at a step.

    The learning rates stay as saved, because schedulers compute each rate from the one before.
    """
    kept = {name: state[name] for name in ('base_values', '_last_value') if name in state}
    state.update(scheduler.state_dict(), **kept)
    state['_global_step'] = step
    state['last_step'] = max(min(step, scheduler.end - 1) - scheduler.begin, -1)


def _apart(runner: Runner) -> list[str]:
    """The schedulers that do not end with the training, as texts."""
    unit = len(runner.train_dataloader) if counts_epochs(runner) else 1
    name = 'epoch' if counts_epochs(runner) else 'iteration'
    found = []
    for _, schedulers in by_optimizer(runner):
        ends = []
        for scheduler in schedulers:
            end = _end(scheduler)
            if end is not None and scheduler.param_name == 'lr':
                ends.append((end * (unit if scheduler.by_epoch else 1), scheduler))
        found += [
            f'{type(one).__name__} runs to {name} {end / unit:g}'
            for end, one in ends
            if end > runner.max_iters
        ]
        last, scheduler = max(ends, key=lambda pair: pair[0], default=(math.inf, None))
        if last < runner.max_iters - 1 and _decays(scheduler):
            found.append(f'{type(scheduler).__name__} ends at {name} {last / unit:g}')
    return found


def _end(scheduler: _ParamScheduler) -> int | None:
    """The step after which a scheduler changes nothing; None if it never stops."""
    if hasattr(scheduler, 'milestones'):
        return scheduler.begin + max(scheduler.milestones, default=-1) + 1
    for name, more in (('T_max', 0), ('total_steps', 0), ('total_iters', 1)):
        if hasattr(scheduler, name):
            return scheduler.begin + getattr(scheduler, name) + more
    return None


def _decays(scheduler: _ParamScheduler) -> bool:
    """Whether a schedule should last until training ends. A warm-up or a last drop need not."""
    rises = getattr(scheduler, 'start_factor', math.inf) <= getattr(scheduler, 'end_factor', 1)
    return not (rises or hasattr(scheduler, 'milestones') or hasattr(scheduler, 'factor'))
