"""The learning rate's schedule against the length of the training that follows it."""

import copy
import math
from types import SimpleNamespace

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.optim.scheduler import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from a2mim_mm.registry import HOOKS


@HOOKS.register_module()
class ScheduleHook(Hook):
    """Keeps a schedule and its training together.

    Before the first step it says where the two end apart. Training may resume with epochs of another length,
    because the batch, the number of ranks or of images changed. What counts iterations is then carried over,
    so that each epoch has the learning rate that it would have had.
    """

    priority = 'HIGH'  # after the checkpoint was found fit

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note how long an epoch is: mmengine does not."""
        checkpoint['meta'].update(epoch_length=len(runner.train_dataloader), batch=batch_text(runner))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Carry a resumed schedule over to epochs of another length."""
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
            f'goes on after epoch {meta["epoch"]} as iteration {meta["iter"]} of {runner.max_iters}'
        )

    def before_train(self, runner: Runner) -> None:
        """Say where schedule and training end apart."""
        apart = _apart(runner)
        if apart:
            runner.logger.warning(
                f'the schedule does not fit a training of {length_text(runner)}: {"; ".join(apart)}. '
                f'The last lr will be {_last_lrs(runner)}. Set begin, end, T_max or milestones of '
                'param_scheduler together with the length in train_cfg'
            )


def allow_short_training(runner: Runner) -> None:
    """Let a training end before one of its schedulers begins, as a first try of two epochs does.

    mmengine ends a scheduler with the training, and refuses one that would end before it begins. Such a one
    gets an end of its own here, which training never reaches; :class:`ScheduleHook` warns of it.

    Args:
        runner: A Runner whose schedulers are not built yet.
    """
    for cfg in _scheduler_cfgs(runner.param_schedulers):
        begin = cfg.get('begin', 0)
        if begin >= (runner.max_epochs if cfg.get('by_epoch', True) else runner.max_iters):
            cfg.setdefault('end', begin + 1)


def _scheduler_cfgs(node: object) -> list[dict]:
    """The configs of all schedulers: one, a list, or by optimiser."""
    if isinstance(node, dict) and 'type' in node:
        return [node]
    children = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    return [cfg for child in children for cfg in _scheduler_cfgs(child)]


def batch_text(runner: Runner) -> str:
    """How a batch is put together, such as ``8 ranks x 256 images x 1 accumulation``."""
    images = runner.train_dataloader.batch_size
    accumulation = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    return f'{get_world_size()} ranks x {images} images x {accumulation} accumulation'


def counts_epochs(runner: Runner) -> bool:
    """Whether the training is so many epochs long, and not so many iterations."""
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def length_text(runner: Runner) -> str:
    """How long the training is, such as ``300 epochs`` or ``160000 iterations``."""
    if counts_epochs(runner):
        return f'{runner.max_epochs} epochs'
    return f'{runner.max_iters} iterations'


def base_group(wrapper: OptimWrapper) -> dict:
    """The settings of a parameter that no multiplier acts on; mmengine keeps them as the last group."""
    return wrapper.param_groups[-1]


def last_lr(runner: Runner, wrapper: OptimWrapper, schedulers: list[_ParamScheduler]) -> float:
    """The learning rate of the last step, found by stepping twins of the schedulers to it.

    Args:
        runner: A Runner about to train, from scratch or resumed.
        wrapper: The optimiser's wrapper; of its groups, the one without multipliers is followed.
        schedulers: The schedulers that act on it.
    """
    group = dict(base_group(wrapper))
    stub = SimpleNamespace(param_groups=[group], step=SimpleNamespace(_with_counter=True), _global_step=0)
    # What a metric decides, as ReduceOnPlateau, cannot be foreseen.
    foreseen = [one for one in schedulers if one.param_name == 'lr' and not hasattr(one, 'monitor')]
    twins = [copy.copy(one) for one in foreseen]
    for twin in twins:
        twin.optimizer, twin.base_values = stub, twin.base_values[-1:]
    epoch_length = len(runner.train_dataloader) if counts_epochs(runner) else math.inf
    for step in range(runner.iter + 1, runner.max_iters):
        for twin in twins:
            if not twin.by_epoch or step % epoch_length == 0:
                twin.step()
    return group['lr']


def _last_lrs(runner: Runner) -> str:
    texts = []
    for wrapper, schedulers in by_optimizer(runner):
        last = last_lr(runner, wrapper, schedulers)
        peak = base_group(wrapper).get('initial_lr', base_group(wrapper)['lr'])
        texts.append(f'{last:.3g}, {100 * last / peak:.3g} % of the configured {peak:.3g}')
    return ' and '.join(texts)


def by_optimizer(runner: Runner) -> list[tuple[OptimWrapper, list[_ParamScheduler]]]:
    """The wrapper of each optimiser with its schedulers; most configs have one."""
    wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers or []
    if isinstance(wrapper, OptimWrapperDict):
        return [(one, schedulers[name] if schedulers else []) for name, one in wrapper.items()]
    return [(wrapper, schedulers)]


def _with_states(runner: Runner, states: list | dict) -> list[tuple[_ParamScheduler, dict]]:
    """The schedulers of a Runner, each with what a checkpoint is about to write into it."""
    if isinstance(states, dict):
        return [
            pair for name in states for pair in zip(runner.param_schedulers[name], states[name], strict=False)
        ]
    return list(zip(runner.param_schedulers or [], states, strict=False))


def _move(state: dict, scheduler: _ParamScheduler, step: int) -> None:
    """Turn a scheduler's saved state into that of ``scheduler``, new and of another length, at a step.

    The learning rates themselves stay as saved: schedulers compute each from the one before.
    """
    kept = {name: state[name] for name in ('base_values', '_last_value') if name in state}
    state.update(scheduler.state_dict(), **kept)
    state['_global_step'] = step
    state['last_step'] = max(min(step, scheduler.end - 1) - scheduler.begin, -1)


def _apart(runner: Runner) -> list[str]:
    """What keeps schedule and training from ending together."""
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
    """The step at which a scheduler has done all that it does; None if it goes on for ever."""
    if hasattr(scheduler, 'milestones'):
        return scheduler.begin + max(scheduler.milestones, default=-1) + 1
    for name, more in (('T_max', 0), ('total_steps', 0), ('total_iters', 1)):
        if hasattr(scheduler, name):
            return scheduler.begin + getattr(scheduler, name) + more
    return None


def _decays(scheduler: _ParamScheduler) -> bool:
    """Whether a schedule should last until training ends: a warm-up or a last drop need not."""
    rises = getattr(scheduler, 'start_factor', math.inf) <= getattr(scheduler, 'end_factor', 1)
    return not (rises or hasattr(scheduler, 'milestones') or hasattr(scheduler, 'factor'))
