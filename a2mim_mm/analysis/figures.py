"""The pictures of the analyses, in the form of the paper's Figures 1, 3 and A1.

Networks with the same name are runs of one kind. Their curve is the mean over runs, with a band of one
standard deviation. The band of a single run is the spread within it. The legend says which.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np

from a2mim_mm.errors import InputError
from a2mim_mm.files import write_whole

Curve = tuple[Sequence[float], Sequence[float], Sequence[float]]  # mean, low, high
_MARKERS = 'oDs^vP*X'
_LETTERS_PER_INCH = 14  # of the legend


def group(models: Sequence[dict]) -> dict[str, list[dict]]:
    """Results by name, in the order of the first of each."""
    groups: dict[str, list[dict]] = {}
    for model in models:
        groups.setdefault(model['name'], []).append(model)
    return groups


def curve_of(runs: Sequence[dict], key: str, own_band: Callable[[dict], tuple | None]) -> Curve:
    """Mean, lower and upper bound of the runs of a kind.

    Args:
        runs: Results.
        key: Where a result has its values.
        own_band: Gives the lower and upper bound of a single result, or None if it has no spread.

    Raises:
        ValueError: If the runs have different numbers of values.
    """
    if len({len(run[key]) for run in runs}) > 1:
        raise InputError(f'networks called {runs[0]["name"]} differ in kind: give them other --names')
    values = np.array([run[key] for run in runs], dtype=float)
    mean = values.mean(axis=0)
    if len(runs) == 1:
        return mean, *(own_band(runs[0]) or (mean, mean))
    spread = values.std(axis=0, ddof=1)
    return mean, mean - spread, mean + spread


def draw_occlusion(models: Sequence[dict], path: Path) -> None:
    """Top-1 against the occlusion ratio (Figure 1 a-d)."""
    figure, axes = plt.subplots(figsize=(5, 4.6), layout='constrained')
    labels = _labels(models, 'standard deviation over masks')
    for index, (name, runs) in enumerate(group(models).items()):
        curve = curve_of(runs, 'mean', lambda run: _around(run['mean'], run['std']))
        _draw_curve(axes, runs[0]['ratios'], curve, labels[name], index)
    axes.set(xlabel='occlusion ratio', ylabel='top-1 accuracy (%)', ylim=(0, None))
    _finish(figure, axes, path)


def draw_interaction(models: Sequence[dict], path: Path) -> None:
    """J^(m) against the order (Figure 1 e-h)."""
    figure, axes = plt.subplots(figsize=(5, 4.6), layout='constrained')
    labels = _labels(models, '95 % interval over images')
    for index, (name, runs) in enumerate(group(models).items()):
        curve = curve_of(runs, 'J', lambda run: run['J_low'] and (run['J_low'], run['J_high']))
        _draw_curve(axes, runs[0]['order_shares'], curve, labels[name], index)
    axes.set(xlabel='order m / (n - 2)', ylabel='interaction strength $J^{(m)}$', ylim=(0, None))
    _finish(figure, axes, path)


def draw_fourier(models: Sequence[dict], path: Path) -> None:
    """High frequencies and variance against depth (Figure 3 a and b). Maps shrink in blue columns."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout='constrained')
    labels = _labels(models, '95 % interval over images')
    for axes, key in ((left, 'log_amplitude'), (right, 'variance')):
        for index, (name, runs) in enumerate(group(models).items()):
            curve = curve_of(runs, key, lambda run, key=key: _around(run[key], run[f'{key}_error'], 1.96))
            _draw_curve(axes, runs[0]['depth'], curve, labels[name], index)
        for low, high in _shrinking(models):
            axes.axvspan(low, high, color='tab:blue', alpha=0.12, linewidth=0)
    left.set(xlabel='normalised depth', ylabel=r'$\Delta$ log amplitude at $\pi$')
    right.set(xlabel='normalised depth', ylabel='feature map variance', yscale='log')
    _finish(figure, left, path)


def _around(mean: Sequence[float], spread: Sequence[float] | None, times: float = 1) -> tuple | None:
    if spread is None:
        return None
    return np.array(mean) - times * np.array(spread), np.array(mean) + times * np.array(spread)


def _shrinking(models: Sequence[dict]) -> list[tuple[float, float]]:
    """Depths between which maps get smaller; empty unless they are the same in all networks, and not all."""
    spans = [
        [
            (before, after)
            for before, after, large, small in zip(
                model['depth'], model['depth'][1:], model['shapes'], model['shapes'][1:], strict=False
            )
            if small[1] * small[2] < large[1] * large[2]
        ]
        for model in models
    ]
    alike = all(other == spans[0] for other in spans)
    return spans[0] if alike and len(spans[0]) < len(models[0]['depth']) - 1 else []


def _labels(models: Sequence[dict], own_band: str) -> dict[str, str]:
    """The legend of each name: the number of runs, and what the band is."""
    labels = {}
    for name, runs in group(models).items():
        # matplotlib reads $ as mathematics, and leaves out what begins with _.
        shown = f' {name}'.replace('$', r'\$') if name.startswith('_') else name.replace('$', r'\$')
        band = own_band if len(runs) == 1 else f'{len(runs)} runs, standard deviation over runs'
        labels[name] = f'{shown} ({band})'
    return labels


def _draw_curve(axes: plt.Axes, x: Sequence[float], curve: Curve, label: str, index: int) -> None:
    mean, low, high = curve
    (line,) = axes.plot(x, mean, marker=_MARKERS[index % len(_MARKERS)], markersize=4, label=label)
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)


def _finish(figure: plt.Figure, axes: plt.Axes, path: Path) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = int(_LETTERS_PER_INCH * figure.get_figwidth()) // (6 + max(map(len, labels)))
    figure.legend(handles, labels, loc='outside lower center', fontsize='small', ncols=max(1, columns))
    with write_whole(path) as draft:
        figure.savefig(draft, dpi=110, format='png')
    plt.close(figure)
