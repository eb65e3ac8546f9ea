"""The schedule of the learning rate, and the length of a training, in numbers and words."""

import copy
import math
from types import SimpleNamespace

from mmengine.dist import get_world_size
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.optim.scheduler import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner


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


def by_optimizer(runner: Runner) -> list[tuple[OptimWrapper, list[_ParamScheduler]]]:
    """The wrapper of each optimiser with its schedulers; most configs have one."""
    wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers or []
    if isinstance(wrapper, OptimWrapperDict):
        return [(one, schedulers[name] if schedulers else []) for name, one in wrapper.items()]
    return [(wrapper, schedulers)]
