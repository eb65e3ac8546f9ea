"""Stops a training at the first loss, gradient or weight that is not finite."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.optim import Optimizer

from a2mim_mm.checkpoints.load import unwrap
from a2mim_mm.errors import UserError, first_names
from a2mim_mm.registry import HOOKS


class NonFiniteError(UserError):
    """A loss, gradient or weight became NaN or infinite."""


@HOOKS.register_module()
class FiniteHook(Hook):
    """Stops a training at its first loss or gradient that is NaN or infinite, before the step.

    It checks losses as the model returns them, and gradients right before the optimiser uses them: after
    clipping, and after the loss scaler of float16 has skipped steps that overflowed. The check waits for the
    GPU once a step. The weights are checked before each checkpoint is written.

    Raises:
        NonFiniteError: With the iteration and the names of the losses, parameters or weights.
    """

    priority = 'VERY_HIGH'  # before any hook that saves

    def __init__(self) -> None:
        self._losses: dict[str, Tensor] = {}  # summed over the forward passes since the last check
        self._runner: Runner | None = None

    def before_train(self, runner: Runner) -> None:
        """Begin to watch."""
        self._runner = runner
        unwrap(runner.model).register_forward_hook(self._keep_losses)
        wrapper = runner.optim_wrapper
        for one in wrapper.values() if hasattr(wrapper, 'values') else (wrapper,):
            one.optimizer.register_step_pre_hook(self._before_step)

    def after_train_iter(self, _runner: Runner, **_) -> None:
        """Check losses without a step after them: gradients are accumulated, or float16 overflowed."""
        self._check_losses()

    def before_save_checkpoint(self, _runner: Runner, checkpoint: dict) -> None:
        """Check the weights, because the last step may have broken them."""
        broken = [
            name
            for name, value in checkpoint['state_dict'].items()
            if isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all()
        ]
        if broken:
            self._stop(f'{len(broken)} weights are not finite ({first_names(broken)}) and are not saved')

    def _keep_losses(self, model: nn.Module, _args: tuple, outputs: object) -> None:
        if model.training and isinstance(outputs, dict):
            for name, value in outputs.items():
                if 'loss' in name:  # the rule of mmengine's parse_losses
                    values = value if isinstance(value, (list, tuple)) else [value]
                    total = sum(one.detach().mean() for one in values)
                    self._losses[name] = self._losses[name] + total if name in self._losses else total

    def _before_step(self, optimizer: Optimizer, _args: tuple, _kwargs: dict) -> None:
        self._check_losses()
        grads = [param.grad for group in optimizer.param_groups for param in group['params']]
        grads = [grad for grad in grads if grad is not None]
        if grads and not torch.stack([norm.float() for norm in torch._foreach_norm(grads)]).isfinite().all():
            names = [
                name
                for name, param in unwrap(self._runner.model).named_parameters()
                if param.grad is not None and not param.grad.isfinite().all()
            ]
            if names:  # otherwise only the norm overflowed
                self._stop(f'the gradients of {len(names)} parameters are not finite ({first_names(names)})')

    def _check_losses(self) -> None:
        losses, self._losses = self._losses, {}
        if losses and not torch.stack([value.float() for value in losses.values()]).isfinite().all():
            self._stop('the loss is not finite: ' + ', '.join(f'{n} {v:.4g}' for n, v in losses.items()))

    def _stop(self, what: str) -> None:
        runner = self._runner
        raise NonFiniteError(
            f'training stopped in iteration {runner.iter + 1} of {runner.max_iters}: {what}. Try a smaller '
            'optim_wrapper.optimizer.lr, a longer warm-up or optim_wrapper.clip_grad.max_norm=1.0, and look '
            'for broken images and labels'
        )
