"""The pixel losses against float64 references: L1 and focal L1."""

import numpy as np
import pytest
import torch
from helpers import reference
from mmpretrain.models.losses import PixelReconstructionLoss

from a2mim_mm.models.pixel_loss import FocalL1Loss, PixelL1Loss


def draw(size=(6, 9), batch=3, seed=0):
    rng = np.random.default_rng(seed)
    pred, target = rng.normal(size=(2, batch, 3, *size)) * 3
    mask = (rng.random((batch, 1, *size)) < 0.6).astype(np.float64)
    return pred, target, mask


def run(module, pred, target, mask):
    pred_t = torch.tensor(pred, requires_grad=True)
    loss = module(pred_t, torch.tensor(target), torch.tensor(mask))
    loss.backward()
    return loss.item(), pred_t.grad.numpy()


def test_l1_of_rgb_is_that_of_mmpretrain_to_the_bit():
    pred, target, mask = (torch.tensor(value, dtype=torch.float32) for value in draw((32, 32)))
    theirs = PixelReconstructionLoss('L1', channel=3)
    assert torch.equal(PixelL1Loss()(pred, target, mask), theirs(pred, target, mask))


@pytest.mark.parametrize('size', [(6, 9), (7, 4)], ids=str)
def test_l1_as_configured_is_l_spa(size):
    pred, target, mask = draw(size)
    loss, grad = run(PixelL1Loss(), pred, target, mask)
    expected = reference.l_spa(pred, target, mask)
    assert loss == pytest.approx(expected.loss, rel=1e-12)
    np.testing.assert_allclose(grad, expected.grad, atol=1e-15)


@pytest.mark.parametrize('size', [(6, 9), (7, 4)], ids=str)
@pytest.mark.parametrize('beta', [0.2, 1.0])
def test_focal_l1(size, beta):
    pred, target, mask = draw(size)
    loss, grad = run(FocalL1Loss(beta=beta), pred, target, mask)
    expected = reference.l_spa_focal(pred, target, mask, beta)
    assert loss == pytest.approx(expected.loss, rel=1e-12)
    np.testing.assert_allclose(grad, expected.grad, atol=1e-14)


def test_focal_reference_gradient_is_the_finite_difference():
    pred, target, mask = draw((2, 3), batch=1)
    expected = reference.l_spa_focal(pred, target, mask)
    for flat in range(pred.size):
        nudge = np.zeros(pred.size)
        nudge[flat] = 1e-6
        nudge = nudge.reshape(pred.shape)
        high, low = (reference.l_spa_focal(pred + sign * nudge, target, mask).loss for sign in (1, -1))
        assert expected.grad.flat[flat] == pytest.approx((high - low) / 2e-6, abs=1e-8)


def test_beta_of_the_official_code_is_the_default():
    pred, target, mask = draw()
    assert run(FocalL1Loss(), pred, target, mask)[0] == run(FocalL1Loss(beta=0.2), pred, target, mask)[0]


def test_wrong_beta_is_named():
    with pytest.raises(ValueError, match=r'beta.*-1'):
        FocalL1Loss(beta=-1.0)
