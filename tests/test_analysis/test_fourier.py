"""Spectra and variances of maps that are known in closed form."""

from math import log

import numpy as np
import pytest
import torch
from torch import nn

from a2mim_mm.analysis.fourier import diagonal, log_amplitude, map_statistics, map_variance


def relative(feat_bchw):
    """Log amplitude relative to frequency 0, mean over maps, and its standard error, both (f,)."""
    logs = log_amplitude(feat_bchw)
    logs = logs - logs[:, :1]
    return logs.mean(0), logs.std(0) / len(logs) ** 0.5


def noise(height, width, maps=4000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(maps, 1, height, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize('size', [(8, 8), (7, 7), (14, 14), (2, 2), (6, 9), (9, 6)])
def test_white_noise_is_at_0_at_all_frequencies(size):
    mean, error = relative(noise(*size))
    assert len(mean) == min(size) // 2 + 1
    assert (abs(mean) <= 4.5 * error).all()
    assert (error[1:] < 0.03).all()


@pytest.mark.parametrize('size', [8, 9])
def test_blurred_noise_has_the_transfer_function_of_the_blur(size):
    a, maps = 0.1, noise(size, size)
    for axis in (2, 3):
        maps = (1 - 2 * a) * maps + a * (maps.roll(1, axis) + maps.roll(-1, axis))
    mean, error = relative(maps)
    omega = np.pi * diagonal(size, size)[2].numpy()
    expected = 2 * np.log(1 - 2 * a + 2 * a * np.cos(omega))
    assert (abs(mean.numpy() - expected) <= 4.5 * error.numpy()).all()
    if size == 8:
        assert expected[-1] == pytest.approx(2 * log(0.6))  # -1.02 at pi


@pytest.mark.parametrize('size', [8, 7])
@pytest.mark.parametrize('frequency', [0, 1, 2, 3])
def test_a_single_frequency_lands_in_its_bin(size, frequency):
    position = np.arange(size)
    wave = np.cos(2 * np.pi * frequency * np.add.outer(position, position) / size + 0.4)
    logs = log_amplitude(torch.from_numpy(wave)[None, None])[0]
    assert logs.argmax() == frequency
    assert logs.sort().values[-2] < logs.max() - 10
    assert diagonal(size, size)[2][frequency] == pytest.approx(2 * frequency / size)


@pytest.mark.parametrize('size', [(6, 6), (5, 5), (4, 8), (6, 9)])
def test_amplitudes_are_those_of_a_transform_by_hand(size):
    feature = noise(*size, maps=6).view(2, 3, *size)
    rows, columns, _ = diagonal(*size)
    y, x = np.arange(size[0])[:, None], np.arange(size[1])[None]
    logs = log_amplitude(feature)
    for index, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        wave = np.exp(-2j * np.pi * (row * y / size[0] + column * x / size[1]))
        amplitude = abs((feature.numpy() * wave).sum(axis=(2, 3)))
        correction = 0 if np.allclose(wave.imag, 0) else np.log(2) / 2
        np.testing.assert_allclose(
            logs[:, index], np.log(amplitude + 1e-6).mean(axis=1) - correction, rtol=1e-4
        )


@pytest.mark.parametrize('size', [(8, 8), (7, 7), (6, 9)])
def test_channels_that_are_off_are_flat(size):
    own = log_amplitude(noise(*size, maps=2))
    dead = log_amplitude(torch.zeros(2, 1, *size))
    np.testing.assert_array_equal(dead, dead[:1, :1].expand_as(dead))
    both = log_amplitude(torch.cat([noise(*size, maps=2), torch.zeros(2, 1, *size)], dim=1))
    np.testing.assert_allclose(both, (own + dead) / 2)


def test_a_scale_changes_nothing_but_the_level():
    feature = 10 + noise(7, 7, maps=3)
    logs, scaled = log_amplitude(feature), log_amplitude(1000 * feature.float())
    np.testing.assert_allclose(scaled, logs + log(1000), atol=1e-4)


def test_variance_is_over_positions():
    feature = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]], [[2.0, 2.0], [2.0, 2.0]]]])
    assert map_variance(feature).tolist() == [(20 / 3 + 0) / 2]
    images = noise(5, 6, maps=12).view(4, 3, 5, 6) + torch.arange(4)[:, None, None, None]
    expected = images.numpy().var(axis=(2, 3), ddof=1).mean(axis=1)
    np.testing.assert_allclose(map_variance(images.float()), expected, rtol=1e-5)


def test_statistics_do_not_depend_on_batches():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    images = torch.rand(7, 3, 10, 10)
    whole = map_statistics(network, ['0', '2'], [images])
    parts = map_statistics(network, ['0', '2'], images.split(3))
    assert list(whole) == ['0', '2']
    assert whole['0'].shape == (4, 8, 8) and whole['2'].shape == (4, 4, 4)
    for site in whole:
        torch.testing.assert_close(whole[site].relative_bf, parts[site].relative_bf, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(whole[site].variance_b, parts[site].variance_b, rtol=1e-5, atol=0)
    # Taken before the ReLU behind it works in place.
    with torch.no_grad():
        feature = network[0](images)
    assert (feature < 0).any()
    logs = log_amplitude(feature)
    torch.testing.assert_close(whole['0'].relative_bf, logs - logs[:, :1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(whole['0'].variance_b, map_variance(feature))
