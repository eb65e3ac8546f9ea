"""L_freq (Eq. 3-5) against float64 references written from the formulas."""

import numpy as np
import pytest
import torch
from helpers import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from a2mim_mm.models.frequency_loss import FocalFrequencyLoss

SIZES = [(8, 8), (7, 7), (8, 7), (7, 8), (1, 6), (6, 1), (24, 32)]

SETTINGS = {
    'paper': reference.PAPER,
    'official_cnn': reference.OFFICIAL_CNN,
    'official_r101': reference.OFFICIAL_R101,
    'official_vit': reference.OFFICIAL_VIT,
    'no_reweighting': dict(reweight=False),
    'alpha_2': dict(alpha=2.0),
    'alpha_half': dict(alpha=0.5),
    'squared': dict(squared=True),
    'batch_spectrum': dict(batch_spectrum=True),
    'log_weight': dict(log_weight=True),
    'log_weight_alpha_2': dict(log_weight=True, alpha=2.0),
    'normalize_batch': dict(normalize='batch'),
    'leak': dict(leak=0.3),
    'target_share': dict(target_share=0.5),
    'leak_and_share': dict(leak=0.3, target_share=0.25),
    'squared_no_reweighting': dict(squared=True, reweight=False),
}


def draw(size, batch=3, seed=0):
    """Prediction, target and a mask that hides about half of the pixels, float64."""
    rng = np.random.default_rng(seed)
    pred = rng.normal(size=(batch, 3, *size))
    target = rng.normal(size=(batch, 3, *size))
    mask = (rng.random((batch, 1, *size)) < 0.5).astype(np.float64)
    mask[:, :, 0, 0], mask[:, :, -1, -1] = 1.0, 0.0
    return pred, target, mask


def run(module, pred, target, mask, dtype=torch.float32):
    """Loss and gradient of the module under test."""
    pred_t = torch.tensor(pred, dtype=dtype, requires_grad=True)
    loss = module(pred_t, torch.tensor(target, dtype=dtype), torch.tensor(mask, dtype=dtype))
    loss.backward()
    return loss.item(), pred_t.grad.double().numpy()


def assert_same(got, expected, tol=2e-5):
    loss, grad = got
    assert loss == pytest.approx(expected.loss, rel=tol)
    # measured against the largest entry: entries near zero carry the rounding of the whole transform
    scale = np.abs(expected.grad).max()
    np.testing.assert_allclose(grad / scale, expected.grad / scale, atol=5 * tol, rtol=0)


# ---- the references themselves -------------------------------------------------------------------


def test_reference_spectrum_is_the_orthonormal_dft():
    img = np.random.default_rng(0).normal(size=(2, 3, 5, 8))
    fast = np.fft.fft2(img, norm='ortho')
    # Eq. 3 counts from 1: frequency n is 0, and the shift of origin turns phases but no magnitude
    expected = np.roll(np.abs(fast), (-1, -1), axis=(2, 3))
    np.testing.assert_allclose(np.abs(reference.spectrum(img)), expected, atol=1e-12)


@pytest.mark.parametrize('name', SETTINGS)
def test_reference_gradient_is_the_finite_difference_with_frozen_weights(name):
    pred, target, mask = draw((4, 5), batch=2)
    grad = reference.l_freq(pred, target, mask, **SETTINGS[name]).grad
    step = 1e-6
    for flat in range(0, pred.size, 7):
        nudge = np.zeros(pred.size)
        nudge[flat] = step
        nudge = nudge.reshape(pred.shape)
        high = reference.l_freq(pred + nudge, target, mask, frozen=pred, **SETTINGS[name]).loss
        low = reference.l_freq(pred - nudge, target, mask, frozen=pred, **SETTINGS[name]).loss
        assert grad.flat[flat] == pytest.approx((high - low) / (2 * step), abs=1e-9, rel=1e-6)


# ---- values and gradients ------------------------------------------------------------------------


@pytest.mark.parametrize('size', SIZES, ids=lambda size: f'{size[0]}x{size[1]}')
@pytest.mark.parametrize('name', SETTINGS)
def test_value_and_gradient_match_the_reference(name, size):
    pred, target, mask = draw(size)
    expected = reference.l_freq(pred, target, mask, **SETTINGS[name])
    assert_same(run(FocalFrequencyLoss(**SETTINGS[name]), pred, target, mask), expected)


# ---- what the loss promises ----------------------------------------------------------------------


@pytest.mark.parametrize('name', ['paper', 'no_reweighting', 'official_vit', 'target_share'])
def test_gradient_reaches_hidden_pixels_only(name):
    pred, target, mask = draw((8, 7))
    _, grad = run(FocalFrequencyLoss(**SETTINGS[name]), pred, target, mask)
    visible = np.broadcast_to(mask == 0, grad.shape)
    assert (grad[visible] == 0).all()
    assert (grad[~visible] != 0).all()


def test_paper_loss_does_not_depend_on_how_a_batch_is_split():
    pred, target, mask = draw((8, 9), batch=4)
    loss, grad = run(FocalFrequencyLoss(), pred, target, mask)
    parts = [run(FocalFrequencyLoss(), pred[i : i + 2], target[i : i + 2], mask[i : i + 2]) for i in (0, 2)]
    assert loss == pytest.approx(np.mean([part[0] for part in parts]), rel=1e-6)
    split = np.concatenate([part[1] for part in parts]) / 2
    np.testing.assert_allclose(grad, split, atol=1e-6 * np.abs(grad).max(), rtol=0)


@pytest.mark.parametrize('name', SETTINGS)
def test_no_difference_costs_nothing_and_stays_finite(name):
    _, target, mask = draw((8, 8))
    loss, grad = run(FocalFrequencyLoss(**SETTINGS[name]), target, target, mask)
    assert np.isfinite(grad).all()
    if SETTINGS[name].get('leak', 0.0) == 0.0:
        assert loss == 0
        assert (grad == 0).all()
    else:  # leak * x + (1 - leak) * x is x up to rounding only
        assert loss < 1e-7


@pytest.mark.parametrize('name', ['paper', 'official_cnn', 'no_reweighting', 'alpha_half'])
def test_one_perfect_channel_leaves_the_gradient_finite(name):
    pred, target, mask = draw((8, 8))
    pred[0, 1] = target[0, 1]
    expected = reference.l_freq(pred, target, mask, **SETTINGS[name])
    assert_same(run(FocalFrequencyLoss(**SETTINGS[name]), pred, target, mask), expected)


@given(hnp.arrays(np.float32, (1, 3, 4, 5), elements=st.floats(-100, 100, width=32)))
@settings(deadline=None, max_examples=20)
def test_never_negative_and_finite(pred):
    _, target, mask = draw((4, 5), batch=1)
    for name in ('paper', 'official_cnn'):
        loss, grad = run(FocalFrequencyLoss(**SETTINGS[name]), pred, target, mask)
        assert loss >= 0
        assert np.isfinite(grad).all()


# ---- precision -----------------------------------------------------------------------------------


def test_float32_inside_autocast():
    pred, target, mask = draw((6, 7))
    plain, grad = run(FocalFrequencyLoss(), pred, target, mask)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        cast, cast_grad = run(FocalFrequencyLoss(), pred, target, mask)
    assert cast == plain
    np.testing.assert_array_equal(cast_grad, grad)


def test_low_precision_images_are_compared_in_float32():
    # half-precision transforms do not exist for 7 x 9: other arithmetic than float32 would raise or differ
    pred, target, mask = draw((7, 9))
    low = [torch.tensor(image).bfloat16().requires_grad_() for image in (pred, target)]
    loss = FocalFrequencyLoss()(*low, torch.tensor(mask).float())
    loss.backward()
    assert loss.dtype == torch.float32 and low[0].grad.dtype == torch.bfloat16
    pred, target = (image.detach().double().numpy() for image in low)
    assert loss.item() == pytest.approx(reference.l_freq(pred, target, mask).loss, rel=1e-5)


# ---- users' mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('wrong', 'kind', 'words'),
    [
        (dict(normalize='image'), ValueError, "normalize.*'image'"),
        (dict(alpha=-1.0), ValueError, 'alpha.*-1'),
        (dict(leak=1.5), ValueError, 'leak.*1.5'),
        (dict(target_share=-0.1), ValueError, 'target_share.*-0.1'),
        (dict(focal_beta=0.0), ValueError, 'focal_beta.*0.0'),
        (dict(focal_beta=0.2, squared=True), ValueError, 'focal_beta.*without squared'),
        (dict(alfa=1.0), TypeError, 'alfa'),
    ],
)
def test_wrong_argument_is_named(wrong, kind, words):
    with pytest.raises(kind, match=words):
        FocalFrequencyLoss(**wrong)
