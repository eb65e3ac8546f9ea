"""Training stops at the first number that is not finite, before the step and before a checkpoint."""

import pytest
import torch
from helpers.toy_training import ToyModel
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS

from a2mim_mm.engine.hooks import NonFiniteError


@HOOKS.register_module()
class Poison(Hook):
    """Spoils the model at an iteration; keeps the weights as they were then."""

    priority = 'LOWEST'

    def __init__(self, kind, iteration):
        self.kind, self.iteration = kind, iteration
        Poison.last = self

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            self.model = runner.model
            weight = runner.model.encoder.weight
            if self.kind == 'loss':
                runner.model.decoder.bias.data.fill_(float('inf'))
            elif self.kind != 'weights':
                weight.register_hook(lambda grad: grad * float(self.kind))
            self.weight = weight.detach().clone()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.kind == 'weights' and runner.iter == self.iteration:
            runner.model.encoder.weight.data.fill_(float('nan'))


@MODELS.register_module()
class ToyThatLooksTwice(ToyModel):
    """Its first forward of an iteration gives an infinite loss, which the step does not use."""

    def train_step(self, data, optim_wrapper):
        self.poisoned = True
        self(**self.data_preprocessor(data, True), mode='loss')
        self.poisoned = False
        return super().train_step(data, optim_wrapper)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        losses = super().forward(inputs, data_samples, mode)
        return {name: loss + float('inf') for name, loss in losses.items()} if self.poisoned else losses


def poison(kind, iteration):
    return f"custom_hooks.append(dict(type='Poison', kind={kind!r}, iteration={iteration}))\n"


@pytest.mark.parametrize(
    ('kind', 'extra'),
    [('loss', ''), ('nan', ''), ('inf', "optim_wrapper['clip_grad'] = dict(max_norm=1.0)\n")],
)
def test_the_first_loss_or_gradient_that_is_not_finite_stops(train, tmp_path, kind, extra):
    words = 'loss_spa inf' if kind == 'loss' else 'gradients of .* parameters'
    with pytest.raises(NonFiniteError, match=f'iteration 6 of 8.*{words}'):
        train(extra + poison(kind, 5))
    assert torch.equal(Poison.last.model.encoder.weight, Poison.last.weight)
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['epoch_1.pth']


def test_losses_are_checked_while_gradients_are_accumulated(train):
    with pytest.raises(NonFiniteError, match='iteration 2 of 8.*loss_spa inf'):
        train("optim_wrapper['accumulative_counts'] = 4\n" + poison('loss', 1))


def test_losses_of_every_forward_of_an_iteration_are_checked(train):
    with pytest.raises(NonFiniteError, match='iteration 1 of 8.*loss_spa inf'):
        train("model['type'] = 'ToyThatLooksTwice'\n")


def test_weights_that_the_last_step_broke_are_not_saved(train, tmp_path):
    with pytest.raises(NonFiniteError, match=r'1 weights are not finite \(encoder.weight\)'):
        train(poison('weights', 7))
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['epoch_1.pth']
