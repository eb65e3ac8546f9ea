"""How the two losses are put together (Eq. 6)."""

import numpy as np
import pytest
import torch
from helpers import reference

from a2mim_mm.models.head import A2MIMHead


def draw(size=(6, 9), batch=3, seed=0):
    rng = np.random.default_rng(seed)
    pred, target = rng.normal(size=(2, batch, 3, *size))
    mask = (rng.random((batch, 1, *size)) < 0.6).astype(np.float64)
    return pred, target, mask


def run(head, pred, target, mask):
    """Each loss and its gradient."""
    pred_t = torch.tensor(pred, dtype=torch.float32, requires_grad=True)
    losses = head.loss(pred_t, torch.tensor(target).float(), torch.tensor(mask).float())
    return {
        name: (loss.item(), torch.autograd.grad(loss, pred_t, retain_graph=True)[0].double().numpy())
        for name, loss in losses.items()
    }


def assert_same(got, expected, factor=1.0):
    assert got[0] == pytest.approx(factor * expected.loss, rel=1e-5)
    scale = np.abs(factor * expected.grad).max()
    np.testing.assert_allclose(got[1] / scale, factor * expected.grad / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize('lambda_freq', [0.5, 0.1])
def test_both_terms_are_returned_and_lambda_is_applied_once(lambda_freq):
    pred, target, mask = draw()
    got = run(A2MIMHead(lambda_freq=lambda_freq), pred, target, mask)
    assert set(got) == {'loss_spa', 'loss_freq'}
    assert_same(got['loss_spa'], reference.l_spa(pred, target, mask))
    assert_same(got['loss_freq'], reference.l_freq(pred, target, mask), lambda_freq)


def test_mmengine_sums_the_terms_to_the_loss_of_equation_6():
    from mmengine.model import BaseModel

    pred, target, mask = draw()
    losses = A2MIMHead().loss(*(torch.tensor(x).float() for x in (pred, target, mask)))
    total, _ = BaseModel.parse_losses(None, losses)
    expected = reference.l_spa(pred, target, mask).loss + 0.5 * reference.l_freq(pred, target, mask).loss
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_official_preset_for_cnns():
    pred, target, mask = draw()
    head = A2MIMHead(
        loss_spa=dict(type='a2mim_mm.FocalL1Loss', beta=0.2),
        loss_freq=dict(type='a2mim_mm.FocalFrequencyLoss', **reference.OFFICIAL_CNN),
    )
    got = run(head, pred, target, mask)
    assert_same(got['loss_spa'], reference.l_spa_focal(pred, target, mask))
    assert_same(got['loss_freq'], reference.l_freq(pred, target, mask, **reference.OFFICIAL_CNN), 0.5)


def test_lambda_zero_leaves_the_pixel_loss_alone():
    assert set(run(A2MIMHead(lambda_freq=0), *draw())) == {'loss_spa'}


@pytest.mark.parametrize('lambda_freq', [-0.5, float('nan')])
def test_negative_lambda_is_refused(lambda_freq):
    with pytest.raises(ValueError, match=rf'lambda_freq.*{lambda_freq}'):
        A2MIMHead(lambda_freq=lambda_freq)


@pytest.mark.parametrize('autocast', [True, False])
def test_half_precision_predictions_are_compared_in_float32(autocast):
    pred, target, mask = draw((7, 9))
    low = [torch.tensor(image).bfloat16() for image in (pred, target)]
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=autocast):
        losses = A2MIMHead().loss(*low, torch.tensor(mask).float())
    pred, target = (image.double().numpy() for image in low)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    spa, freq = reference.l_spa(pred, target, mask).loss, reference.l_freq(pred, target, mask).loss
    assert losses['loss_spa'].item() == pytest.approx(spa, rel=1e-5)
    assert losses['loss_freq'].item() == pytest.approx(0.5 * freq, rel=1e-5)
