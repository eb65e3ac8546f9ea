"""Logs one learning rate."""

from mmengine.hooks import RuntimeInfoHook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from a2mim_mm.registry import HOOKS

from ..schedule import base_group


@HOOKS.register_module()
class OneLrHook(RuntimeInfoHook):
    """Logs one learning rate: that of a parameter without a multiplier.

    With several groups of parameters, mmengine logs this rate as ``base_lr`` and that of the first group as
    ``lr``.
    """

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Note the iteration and the learning rate."""
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            super().before_train_iter(runner, batch_idx, data_batch)
            return
        runner.message_hub.update_info('iter', runner.iter)
        runner.message_hub.update_scalar('train/lr', base_group(runner.optim_wrapper)['lr'])
