"""Refuses a checkpoint that does not fit the model."""

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim_mm.checkpoints.errors import CheckpointError
from a2mim_mm.checkpoints.load import load_strictly, unwrap


class StrictLoadHook(Hook):
    """Refuses a checkpoint that does not fit the model.

    mmengine loads what matches and logs the rest as a warning, so a run goes
    on from weights that are half random.

    Args:
        path: Where the checkpoint comes from, for the message.
        resume: Whether training continues from it, which needs more than weights.
        remedy: What to do instead with a checkpoint that does not fit, for the message.
    """

    priority = 'VERY_HIGH'  # before EMAHook exchanges the weights

    def __init__(self, path: str, resume: bool, remedy: str = '') -> None:
        self.path = path
        self.resume = resume
        self.remedy = remedy

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the checkpoint before anything is taken from it.

        Raises:
            CheckpointError: If it does not fit.
        """
        absent = [key for key in ('meta', 'message_hub', 'optimizer') if key not in checkpoint]
        if self.resume and absent:
            raise CheckpointError(
                f'{self.path} has no {", ".join(absent)}: --resume continues from a checkpoint that '
                f'training wrote. To start a new training from the backbone in it: --pretrained {self.path}'
            )
        if 'state_dict' not in checkpoint:  # plain weights; EMAHook, which comes later, asks for the key
            weights = dict(checkpoint)
            checkpoint.clear()
            checkpoint['state_dict'] = weights
        try:
            load_strictly(unwrap(runner.model), checkpoint['state_dict'], self.path)
        except CheckpointError as error:
            raise CheckpointError(f'{error}{self.remedy}') from error
        if self.resume:
            self._compare_lr(runner, checkpoint['optimizer'])

    def _compare_lr(self, runner: Runner, optimizer_state: dict) -> None:
        """Say so if the checkpoint's learning rate, which resuming restores, is not the configured one."""
        kept = _initial_lrs(optimizer_state.get('param_groups', []))
        configured = _initial_lrs(runner.optim_wrapper.optimizer.param_groups) if kept else []
        if not np.allclose(kept, configured, rtol=1e-6, atol=0):
            runner.logger.warning(
                f'Resuming keeps the lr and the schedule of {self.path}, initial lr {max(kept):.3e}. '
                f'Config and batch now ask for {max(configured):.3e}, which only a new training would use'
            )


def _initial_lrs(param_groups: list[dict]) -> list[float]:
    return [group.get('initial_lr', group['lr']) for group in param_groups]
