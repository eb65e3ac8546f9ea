"""The schedule of the learning rate and the length of a training, as numbers and as text."""

import copy
import math
from types import SimpleNamespace

from mmengine.dist import get_world_size
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.optim.scheduler import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner


def allow_short_training(runner: Runner) -> None:
    """Let a training end before one of its schedulers begins, as a first try of two epochs may.

    mmengine ends a scheduler with the training, and refuses a scheduler that would end before it begins. This
    function gives such a scheduler an end that training never reaches. :class:`ScheduleHook` warns of it.

    Args:
        runner: A Runner that has not built its schedulers yet.
    """
    for cfg in _scheduler_cfgs(runner.param_schedulers):
        begin = cfg.get('begin', 0)
        if begin >= (runner.max_epochs if cfg.get('by_epoch', True) else runner.max_iters):
            cfg.setdefault('end', begin + 1)


def _scheduler_cfgs(node: object) -> list[dict]:
    """The configs of all schedulers. They may be one, a list, or a dict with a list for each optimiser."""
    if isinstance(node, dict) and 'type' in node:
        return [node]
    children = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    return [cfg for child in children for cfg in _scheduler_cfgs(child)]


def batch_text(runner: Runner) -> str:
    """How a batch is made up, such as ``8 ranks x 256 images x 1 accumulation``."""
    images = runner.train_dataloader.batch_size
    accumulation = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    return f'{get_world_size()} ranks x {images} images x {accumulation} accumulation'


def counts_epochs(runner: Runner) -> bool:
    """Whether the length of the training is a number of epochs rather than of iterations."""
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def length_text(runner: Runner) -> str:
    """How long the training is, such as ``300 epochs`` or ``160000 iterations``."""
    if counts_epochs(runner):
        return f'{runner.max_epochs} epochs'
    return f'{runner.max_iters} iterations'


def base_group(wrapper: OptimWrapper) -> dict:
    """The settings of a parameter without multipliers. mmengine keeps them as the last group."""
    return wrapper.param_groups[-1]


def last_lr(runner: Runner, wrapper: OptimWrapper, schedulers: list[_ParamScheduler]) -> float:
    """The learning rate of the last step. Copies of the schedulers are stepped to the end to find it.

    Args:
        runner: A Runner that is about to train, from scratch or resumed.
        wrapper: The wrapper of an optimiser. The result is the rate of its group without multipliers.
        schedulers: The schedulers that act on it.
    """
    group = dict(base_group(wrapper))
    stub = SimpleNamespace(param_groups=[group], step=SimpleNamespace(_with_counter=True), _global_step=0)
    # Schedulers that follow a metric, such as ReduceOnPlateau, cannot be foreseen.
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
    """The wrapper of each optimiser with its schedulers. Most configs have one optimiser."""
    wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers or []
    if isinstance(wrapper, OptimWrapperDict):
        return [(one, schedulers[name] if schedulers else []) for name, one in wrapper.items()]
    return [(wrapper, schedulers)]
