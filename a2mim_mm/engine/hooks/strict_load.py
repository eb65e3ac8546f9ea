"""Refuses a checkpoint that does not fit the model."""

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim_mm.checkpoints.errors import CheckpointError
from a2mim_mm.checkpoints.load import load_strictly, unwrap


class StrictLoadHook(Hook):
    """Refuses a checkpoint that does not fit the model.

    mmengine loads what matches and only warns of the rest, so a run could start with many random weights.

    Args:
        path: The file of the checkpoint, for the message.
        resume: Whether training continues from it. That needs more than weights.
        remedy: For the message: what the user can do if the checkpoint does not fit.
    """

    priority = 'VERY_HIGH'  # before EMAHook swaps the weights

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
                f'{self.path} has no {", ".join(absent)}: --resume needs a checkpoint that '
                f'training wrote. To start a new training from the backbone in it: --pretrained {self.path}'
            )
        if 'state_dict' not in checkpoint:  # plain weights; EMAHook needs the key later
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
        """Warn if the learning rate of the checkpoint, which resuming keeps, is not the configured one."""
        kept = _initial_lrs(optimizer_state.get('param_groups', []))
        configured = _initial_lrs(runner.optim_wrapper.optimizer.param_groups) if kept else []
        if not np.allclose(kept, configured, rtol=1e-6, atol=0):
            runner.logger.warning(
                f'resuming keeps lr and schedule of {self.path}, with the initial lr {max(kept):.3e}. The '
                f'initial lr {max(configured):.3e} of config and batch needs a new training'
            )


def _initial_lrs(param_groups: list[dict]) -> list[float]:
    return [group.get('initial_lr', group['lr']) for group in param_groups]
