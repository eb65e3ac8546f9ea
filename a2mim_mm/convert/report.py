"""What a conversion reports: a dict for ``TARGET.report.json``, and lines for the reader."""

from collections.abc import Callable
from pathlib import Path

from a2mim_mm.errors import first_names
from a2mim_mm.files import package_version, sha256_of

from .detect import Found
from .encoder import Encoder
from .pretraining import PARTS
from .targets import Expression

_PACKAGES = ('torch', 'torchvision', 'timm', 'onedl-mmpretrain', 'onnxruntime', 'a2mim_mm')


def make_report(
    source: Path,
    target: Path,
    to: str,
    found: Found,
    expression: Expression,
    encoder: Encoder,
    resampled: list[str],
    differences: dict[str, float],
    verify: bool,
) -> dict:
    """Everything about a conversion that was carried out, in types that JSON has."""
    mean, std = found.mean_std or (None, None)
    return {
        'source': {
            'file': source.name,
            'sha256': sha256_of(source),
            'format': found.origin.name,
            'also': found.also,
            'names': found.naming.name,
            'entry': found.entry,
        },
        'target': {'file': target.name, 'format': to, 'names': expression.naming.name},
        'backbone': encoder.cfg,
        'image_mean': mean,
        'image_std': std,
        'counts': {
            'encoder': len(found.weights),
            'outside': len(found.outside),
            'written': len(expression.weights),
            'resampled': len(resampled),
        },
        'resampled': resampled,
        'folded': encoder.folded,
        'dropped': {name: 'not part of the encoder' for name in _left_out(found, to)} | expression.dropped,
        'verified': verify,
        'largest_relative_difference': differences,
        'versions': {name: package_version(name) for name in _PACKAGES},
    }


def _left_out(found: Found, to: str) -> list[str]:
    """Names that are not written. A whole pre-training keeps decoder, token and gate."""
    kept = {name for names in PARTS.values() for name in names} if to == 'a2mim' else set()
    return [name for name in found.outside if name not in kept]


def log_found(found: Found, log: Callable[[str], None]) -> None:
    """Say what the source holds."""
    also = f', read the same as {", ".join(found.also)}' if found.also else ''
    place = f', entry {found.entry!r}' if found.entry else ''
    log(f'format: {found.origin.name} ({found.origin.title}){also}; names of {found.naming.name}{place}')
    log(f'encoder: {found.encoder.cfg}')
    if found.mean_std is None:
        log('note: the weights do not show how images were normalised, and writers of such files differ')
    elif found.mean_std[0] == (0.5, 0.5, 0.5):
        log('note: trained on images with mean and std 0.5, but the configs here have those of ImageNet')


def log_report(report: dict, log: Callable[[str], None]) -> None:
    """Say what was written, left out and measured."""
    counts = report['counts']
    encoder, written, resampled = (counts[key] for key in ('encoder', 'written', 'resampled'))
    log(f'{encoder} weights of the encoder -> {written} written, {resampled} resampled')
    for reason in dict.fromkeys(report['dropped'].values()):
        names = [name for name, why in report['dropped'].items() if why == reason]
        log(f'left out, {reason}: {len(names)} ({first_names(names)})')
    for sides, difference in report['largest_relative_difference'].items():
        log(f'largest relative difference, {sides}: {difference:.2e}')
    if not report['verified']:
        log('not verified')
