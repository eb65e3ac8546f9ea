"""Mean and standard deviation of each channel over all pixels of many images, exactly."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from a2mim_mm.errors import InputError
from a2mim_mm.files import write_json

from .decoding import UnreadableImageError

_RESULTS = ('done', 'pixels', 'mean', 'squares', 'unreadable')


@dataclass
class Moments:
    """What is known of the images so far, in float64.

    Attributes:
        done: Number of images, unreadable ones included.
        pixels: Number of pixels.
        mean: Mean of each channel.
        squares: Sum of the squared distances from the mean, of each channel.
        unreadable: "path: reason" of each image that was left out.
    """

    done: int
    pixels: int
    mean: np.ndarray
    squares: np.ndarray
    unreadable: list[str]

    def add(self, img_hwc: np.ndarray) -> None:
        """Add an image (H, W, C), by the parallel formula of Chan, Golub and LeVeque (1979)."""
        values = img_hwc.reshape(-1, img_hwc.shape[2]).astype(np.float64)
        mean = values.mean(axis=0)
        shift, pixels = mean - self.mean, self.pixels + len(values)
        self.squares += ((values - mean) ** 2).sum(axis=0) + shift**2 * (self.pixels * len(values) / pixels)
        self.mean += shift * (len(values) / pixels)
        self.pixels = pixels

    @property
    def std(self) -> np.ndarray:
        """The standard deviation of each channel over all pixels."""
        return np.sqrt(self.squares / max(1, self.pixels))


def measure(
    paths: Sequence[Path],
    load: Callable[[Path], np.ndarray],
    settings: dict,
    out: Path,
    every: int,
    progress: Callable[[range], Sequence[int]] = iter,
) -> Moments:
    """Measure images, or go on where an earlier call was stopped.

    Args:
        paths: The images, in an order that is always the same.
        load: Reads one, as (H, W, C). What raises an UnreadableImageError is left out and noted.
        settings: What the result depends on, for JSON; with ``channels``, the number C.
        out: A JSON file with settings and result, written whole after each ``every`` images and at the end.
        every: A number of images.
        progress: Wraps the numbers of the images that are left, to show how far it is.

    Raises:
        ValueError: If ``out`` holds a result of other settings or files, or if no image can be read.
    """
    names = '\0'.join(map(os.fspath, paths)).encode(errors='surrogateescape')
    settings = {**settings, 'images': len(paths), 'names_sha256': hashlib.sha256(names).hexdigest()}
    moments = _begun(out, settings)
    for number in progress(range(moments.done, len(paths))):
        try:
            moments.add(load(paths[number]))
        except UnreadableImageError as error:
            moments.unreadable.append(f'{paths[number]}: {error}')
        moments.done = number + 1
        if moments.done % every == 0 or moments.done == len(paths):
            _save(out, settings, moments)
    if not moments.pixels:
        raise InputError(f'none of the {len(paths)} images can be read, such as {moments.unreadable[0]}')
    return moments


def _begun(out: Path, settings: dict) -> Moments:
    """What an earlier call has written; nothing if there is no file."""
    if not out.exists():
        zeros = np.zeros(settings['channels'])
        return Moments(done=0, pixels=0, mean=zeros, squares=zeros.copy(), unreadable=[])
    try:
        content = json.loads(out.read_text())
        results = {name: content[name] for name in _RESULTS}
        found = content['settings']
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'{out} is not a result of tools/mean_std.py: name another --out') from error
    differ = [name for name in settings if found.get(name) != settings[name]]
    if differ:
        raise InputError(
            f'{out} was measured with another {differ[0]}, {found.get(differ[0])} instead of '
            f'{settings[differ[0]]}: remove it, or name another --out'
        )
    arrays = {name: np.array(results[name], np.float64) for name in ('mean', 'squares')}
    return Moments(**{**results, **arrays})


def _save(out: Path, settings: dict, moments: Moments) -> None:
    results = {name: getattr(moments, name) for name in (*_RESULTS, 'std')}
    plain = {
        name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in results.items()
    }
    write_json(out, dict(settings=settings, **plain))
