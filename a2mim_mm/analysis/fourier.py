"""How much of a feature map is high frequency, and how much it varies (Section 3.3, Appendix B.3, Figure 3).

After Park and Kim, "How do vision transformers work?" (2022). One number is the log amplitude of the Fourier
transform of feature maps, along the diagonal of the spectrum, from frequency 0 to pi in both directions. The
other is the variance of feature maps over positions.

Shape suffixes: b images, c channels, h and w rows and columns, f frequencies.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from math import sqrt

import torch
from torch import Tensor, nn

from a2mim_mm.backbones.sites import survey, tapped
from a2mim_mm.errors import InputError

from .figures import draw_fourier
from .measuring import analyse, progress
from .networks import Source, load_encoder
from .photos import Photos, choose_photos

COLUMNS = dict(
    site='sites',
    depth='depth',
    shape='shapes',
    log_amplitude='log_amplitude',
    log_amplitude_error='log_amplitude_error',
    variance='variance',
    variance_error='variance_error',
)
_TINY = 1e-6  # gives an amplitude of 0, in channels that are off, a logarithm (as Park and Kim do)


def diagonal(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The bins on the diagonal of a spectrum.

    Returns:
        Row and column, int64 (f,), and normalised frequency, float64 (f,), from 0 to 1 in units of pi. The
        spectrum of an odd map has no bin at pi and ends at the last bin below.
    """
    side = min(height, width)
    steps = torch.arange(side // 2 + 1)
    rows, cols = (
        (steps * height / side).round().long(),
        (steps * width / side).round().long(),
    )
    return rows, cols, 2 * steps.double() / side


def log_amplitude(feat_bchw: Tensor) -> Tensor:
    """Mean over channels of the log amplitude along the diagonal, float64 (b, f).

    Scaled so that white noise has the same log amplitude at all frequencies. The expected logarithm of a
    complex amplitude is (log 2) / 2 above that of a real one of the same power. Frequency 0 is real, and so
    is pi of even maps, so the other amplitudes are divided by sqrt(2). Park and Kim do not scale; they end at
    the last bin below pi.
    """
    height, width = feat_bchw.shape[2:]
    rows, cols, _ = diagonal(height, width)
    is_complex_f = (2 * rows % height + 2 * cols % width) > 0
    scale_f = (1 + (sqrt(2) - 1) * is_complex_f.double()).to(feat_bchw.device)
    logs_f = []
    for feat_chw in feat_bchw:  # one at a time: a whole spectrum takes four times the memory of its map
        amplitude_cf = torch.fft.fft2(feat_chw.double())[:, rows, cols].abs() / scale_f
        logs_f.append((amplitude_cf + _TINY).log().mean(dim=0))
    return torch.stack(logs_f)


def map_variance(feat_bchw: Tensor) -> Tensor:
    """Mean over channels of the variance over positions, float64 (b,) (Figure 3b)."""
    return feat_bchw.double().var(dim=(2, 3)).mean(dim=1)


@dataclass(frozen=True)
class MapStatistics:
    """Statistics of the feature maps at one site.

    Attributes:
        shape: Channels, height and width.
        relative_bf: Log amplitude along the diagonal, relative to frequency 0 (Delta log amplitude).
        variance_b: Variance over positions.
    """

    shape: tuple[int, int, int]
    relative_bf: Tensor
    variance_b: Tensor


@torch.no_grad()
def map_statistics(
    network: nn.Module, sites: Iterable[str], batches: Iterable[Tensor]
) -> dict[str, MapStatistics]:
    """Statistics of the feature maps at some sites, for all images.

    Args:
        network: Takes normalised images (b, 3, H, W).
        sites: Names of sub-modules.
        batches: Normalised images.

    Raises:
        ValueError: If the output of a site is not a map or not finite, or a site does not run exactly once.
    """
    shapes, logs, variances = ({site: [] for site in sites} for _ in range(3))

    def keep(site: str, feat_bchw: Tensor) -> None:
        shapes[site].append(tuple(feat_bchw.shape[1:]))
        logs[site].append(log_amplitude(feat_bchw).cpu())
        variances[site].append(map_variance(feat_bchw).cpu())

    for img_b3hw in batches:
        with tapped(network, list(shapes), img_b3hw.shape, keep):
            network(img_b3hw)
    statistics = {}
    for site in shapes:
        logs_bf = torch.cat(logs[site])
        if not logs_bf.isfinite().all():
            raise InputError(f'the features of site {site} are not finite')
        statistics[site] = MapStatistics(
            shapes[site][0], logs_bf - logs_bf[:, :1], torch.cat(variances[site])
        )
    return statistics


def measure(source: Source, photos: Photos, args: argparse.Namespace) -> dict:
    """Log amplitude of the highest frequency, and variance, at each site; mean and standard error."""
    subject = load_encoder(source, args.seed)
    sites = args.sites
    if sites is None:
        size_hw = next(photos.batches(subject, batch_size=1)).shape[2:]
        sites = block_names(subject.network, tuple(size_hw))
        print(f'{source.name}: maps of {len(sites)} blocks, {sites[0]} to {sites[-1]}')
    batches = photos.batches(subject, args.batch_size)
    batches = progress(batches, source.name, total=-(-len(photos) // args.batch_size))
    statistics = list(map_statistics(subject.network, sites, batches).values())
    highest = [site.relative_bf[:, -1] for site in statistics]
    variance = [site.variance_b for site in statistics]
    several = len(photos) > 1
    return dict(
        images=len(photos),
        sites=sites,
        depth=[index / max(1, len(sites) - 1) for index in range(len(sites))],
        shapes=[site.shape for site in statistics],
        log_amplitude=[_mean(value_b) for value_b in highest],
        log_amplitude_error=[_standard_error(value_b) for value_b in highest] if several else None,
        variance=[_mean(value_b) for value_b in variance],
        variance_error=[_standard_error(value_b) for value_b in variance] if several else None,
        spectrum=[_spectrum(site) for site in statistics],
    )


def block_names(network: nn.Module, size_hw: tuple[int, int]) -> tuple[str, ...]:
    """Names of the blocks of a network that give feature maps, for images of a size in pixels.

    Raises:
        ValueError: If there are none.
    """
    try:
        return survey(network, size_hw).blocks
    except InputError as error:
        raise InputError(f'{error}. --sites names the modules to measure') from error


def _spectrum(site: MapStatistics) -> dict:
    """Log amplitude along the diagonal, relative to frequency 0 (Figure 2a of Park and Kim)."""
    _, _, frequencies = diagonal(*site.shape[1:])
    return dict(frequency=frequencies.tolist(), log_amplitude=site.relative_bf.mean(dim=0).tolist())


def _mean(value_b: Tensor) -> float:
    """Mean over images."""
    return value_b.mean().item()


def _standard_error(value_b: Tensor) -> float:
    """Standard error of the mean over images."""
    return value_b.std().item() / len(value_b) ** 0.5


def run(args: argparse.Namespace) -> None:
    """Measure all networks, write the report and draw the picture.

    Args:
        args: The command line of ``tools/analysis/fourier.py``.
    """
    photos = choose_photos(args.images, args.count, args.seed, labelled=False)
    settings = dict(analysis='fourier', images=photos.digest, sites=args.sites, seed=args.seed)
    models = analyse(args, settings, partial(measure, photos=photos, args=args), COLUMNS)
    draw_fourier(models, args.out / 'fourier.png')
    print(f'drawn: {args.out / "fourier.png"}')
