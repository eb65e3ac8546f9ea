"""Float64 references of the method, written from the formulas of the paper with numpy only.

Nothing here imports the package under test. Spectra are explicit sums (Eq. 3) over matrices, never a fast
transform; gradients are closed forms with every sg(.) quantity held constant, and
`tests/test_models/test_frequency_loss.py` checks these closed forms against finite differences.

Shapes: img_bchw (B, C, H, W), mask_b1hw (B, 1, H, W) with 1 = hidden and 0 = visible.

Source of the formulas: arXiv 2205.13943, Eq. 3-6; the scaling (orthonormal, means instead of sums, division
of the weight by its maximum) is that of Focal Frequency Loss, which Eq. 5 cites.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np


class Value(NamedTuple):
    """A loss and its gradient with respect to the prediction."""

    loss: float
    grad: np.ndarray


def _dft_matrix(n):
    # Eq. 3 counts positions and frequencies from 1 to n; frequency n is frequency 0.
    steps = np.arange(1, n + 1, dtype=np.float64)
    return np.exp(-2j * np.pi * np.outer(steps, steps) / n) / math.sqrt(n)


def spectrum(img_bchw):
    """Eq. 3 as an explicit orthonormal sum over h and w: complex (B, C, H, W), frequencies 1..H and 1..W."""
    rows, cols = _dft_matrix(img_bchw.shape[-2]), _dft_matrix(img_bchw.shape[-1])
    return rows @ img_bchw.astype(np.float64) @ cols.T


def adjoint_spectrum(spec_bcuv):
    """The conjugate transpose of `spectrum`, needed for gradients."""
    rows, cols = _dft_matrix(spec_bcuv.shape[-2]), _dft_matrix(spec_bcuv.shape[-1])
    return rows.conj().T @ spec_bcuv @ cols.conj()


def composite(pred, target, mask_b1hw, leak=0.0, target_share=0.0, frozen_pred=None):
    """The image whose spectrum Eq. 4 takes. `frozen_pred` is sg(pred); finite differences vary pred alone."""
    frozen = pred if frozen_pred is None else frozen_pred
    visible = leak * pred + (1 - leak) * ((1 - target_share) * frozen + target_share * target)
    return mask_b1hw * pred + (1 - mask_b1hw) * visible


def frequency_weight(diff_bcuv, alpha=1.0, reweight=True, log_weight=False, normalize='channel'):
    """Eq. 5: |D|^alpha (optionally its log(1 + .)), divided by its maximum; 0 where that maximum is 0."""
    if not reweight:
        return np.ones(diff_bcuv.shape)
    weight = np.abs(diff_bcuv) ** alpha
    if log_weight:
        weight = np.log(1 + weight)
    axes = (2, 3) if normalize == 'channel' else (0, 1, 2, 3)
    top = weight.max(axis=axes, keepdims=True)
    return np.divide(weight, top, out=np.zeros_like(weight), where=top > 0)


def l_freq(
    pred, target, mask_b1hw, *, alpha=1.0, reweight=True, squared=False, batch_spectrum=False,
    log_weight=False, normalize='channel', leak=0.0, target_share=0.0, focal_beta=None, frozen=None,
):  # fmt: skip
    """Eq. 4 with its gradient.

    `frozen`: the prediction that sg(.) and the detached weight see (default: pred itself). Varying pred with
    `frozen` fixed gives the function whose ordinary derivative the gradient is.
    """
    frozen = pred if frozen is None else frozen

    def difference(moving):
        comp = composite(moving, target, mask_b1hw, leak, target_share, frozen_pred=frozen)
        diff = spectrum(comp) - spectrum(target)
        return diff.mean(axis=0, keepdims=True) if batch_spectrum else diff

    diff = difference(pred)
    weight = frequency_weight(difference(frozen), alpha, reweight, log_weight, normalize)
    size = np.abs(diff)
    error, slope = (size**2, 2 * size) if squared else (size, 1.0)
    if focal_beta is not None:  # |D| (2 sigmoid(beta |D|) - 1), whose weight is not detached
        gate = 1 / (1 + np.exp(-focal_beta * size))
        error, slope = size * (2 * gate - 1), (2 * gate - 1) + 2 * focal_beta * size * gate * (1 - gate)
    loss = (weight * error).mean()

    # d|D| = Re(conj(D) dD) / |D|, dD the transform of the composite's change; slope is d error / d|D|.
    unit = np.divide(diff, size, out=np.zeros_like(diff), where=size > 0)
    per_frequency = weight * slope * unit / diff.size
    grad = adjoint_spectrum(per_frequency).real
    if batch_spectrum:
        grad = np.repeat(grad / len(pred), len(pred), axis=0)
    return Value(float(loss), grad * (mask_b1hw + leak * (1 - mask_b1hw)))


PAPER = {}
OFFICIAL_VIT = dict(squared=True, batch_spectrum=True, log_weight=True, normalize='batch', target_share=0.5)
OFFICIAL_CNN = dict(OFFICIAL_VIT, leak=1e-3)
OFFICIAL_R101 = dict(reweight=False, focal_beta=0.2, target_share=0.5, leak=1e-3)


def l_spa(pred, target, mask_b1hw):
    """Eq. 6, left: L1 on hidden pixels, mean over hidden pixels and channels."""
    diff = (pred - target) * mask_b1hw
    count = pred.shape[1] * float(mask_b1hw.sum())
    return Value(float(np.abs(diff).sum() / count), np.sign(diff) / count)


def l_spa_focal(pred, target, mask_b1hw, beta=0.2):
    """Focal L1, |d| (2 sigmoid(beta |d|) - 1), averaged like `l_spa`. Its weight is not detached."""
    diff = pred - target
    size = np.abs(diff)
    gate = 1 / (1 + np.exp(-beta * size))
    count = pred.shape[1] * float(mask_b1hw.sum())
    slope = (2 * gate - 1) + size * 2 * beta * gate * (1 - gate)
    loss = (size * (2 * gate - 1) * mask_b1hw).sum() / count
    return Value(float(loss), slope * np.sign(diff) * mask_b1hw / count)


def hidden_patches(ratio, n):
    """k = ceil(ratio * n), with ratio read as the decimal number the user typed."""
    return math.ceil(Fraction(repr(ratio)) * n)


def random_mask(scores_bhw, ratio):
    """1 on the k lowest scores of each sample, earlier cells first among equal scores."""
    mask = np.zeros(scores_bhw.shape)
    for sample, out in zip(scores_bhw, mask, strict=True):
        order = sorted(range(sample.size), key=lambda i: (sample.flat[i], i))
        for i in order[: hidden_patches(ratio, sample.size)]:
            out.flat[i] = 1
    return mask


def resize_mask(mask_bhw, size):
    """nearest-exact: cell i shows the input cell that holds its centre, floor((i + 0.5) * in / out)."""
    index = [
        [int(math.floor((2 * i + 1) * n_in / (2 * n_out))) for i in range(n_out)]
        for n_in, n_out in zip(mask_bhw.shape[-2:], size, strict=True)
    ]
    return mask_bhw[:, np.array(index[0])[:, None], np.array(index[1])[None, :]]


def rectangle_areas(grid_hw, k):
    """All areas nearest to k that a rectangle on the grid can have (two when k lies midway)."""
    areas = {a * b for a in range(1, grid_hw[0] + 1) for b in range(1, grid_hw[1] + 1)}
    best = min(abs(area - k) for area in areas)
    return {area for area in areas if abs(area - k) == best}


def rectangles(grid_hw, area):
    """Every (top, left, height, width) of that area on the grid."""
    rows, cols = grid_hw
    return {
        (top, left, height, area // height)
        for height in range(1, rows + 1)
        if area % height == 0 and area // height <= cols
        for top in range(rows - height + 1)
        for left in range(cols - area // height + 1)
    }


def mean_fill(img_bchw, mask_b1hw):
    """Hidden pixels become the mean of that image's own channel over all of its pixels."""
    mean = img_bchw.mean(axis=(2, 3), keepdims=True)
    return np.where(mask_b1hw == 1, mean, img_bchw)


def relative_bias(table, query, key, grid_hw):
    """Row of a bias table for two tokens, 'cls' or (y, x): offsets query - key in reading order, then cls."""
    h, w = grid_hw
    if 'cls' in (query, key):
        kinds = [('cls', 'token'), ('token', 'cls'), ('cls', 'cls')]
        kind = tuple('cls' if token == 'cls' else 'token' for token in (query, key))
        return table[(2 * h - 1) * (2 * w - 1) + kinds.index(kind)]
    return table[(query[0] - key[0] + h - 1) * (2 * w - 1) + query[1] - key[1] + w - 1]
