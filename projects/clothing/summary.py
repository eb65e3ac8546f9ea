"""Print the table and draw the curves of what run.sh has done so far.

python projects/clothing/summary.py [--runs work_dirs/clothing] --out PICTURE.png
"""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

TOP1 = 'accuracy/top1'
COLOURS = dict(scratch='tab:gray', a2mim='tab:blue')
TITLES = {'10pct': '10 % of the labels', '100pct': 'all labels', 'linear': 'linear probe'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Summarise the experiment on photos of clothes.')
    parser.add_argument('--runs', type=Path, default=Path('work_dirs/clothing'), help='what run.sh wrote')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='PICTURE.png', help='where to draw the curves'
    )
    return parser.parse_args(argv)


def test_accuracies(backbone: Path) -> dict[tuple[str, str], list[float]]:
    """Test top-1 in percent of each seed, for each protocol (knn, linear, 10pct, 100pct) and start."""
    found = defaultdict(list)
    for path in sorted([*backbone.glob('*/metrics.json'), *backbone.glob('knn_*.json')]):
        name = path.stem if path.suffix == '.json' and path.parent == backbone else path.parent.name
        match = re.match(r'(knn|linear|10pct|100pct)_(scratch|a2mim)', name)
        if match:
            found[match.groups()].append(json.loads(path.read_text())[TOP1])
    return found


def curve(run: Path, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a logged number; where a run was resumed, the later value counts."""
    points = {}
    for path in sorted(run.glob('*/vis_data/scalars.json')):
        for line in map(json.loads, path.read_text().splitlines()):
            if key in line:
                points[line['step']] = line[key]
    return np.array(sorted(points)), np.array([points[step] for step in sorted(points)])


def draw(axes: Axes, backbone: Path, protocol: str) -> None:
    """Validation accuracy by epoch: each run thin, the mean of the finished runs thick."""
    for start, colour in COLOURS.items():
        ended = []
        for run in sorted(backbone.glob(f'{protocol}_{start}*')):
            steps, values = curve(run, TOP1)
            axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.6)
            if (run / 'metrics.json').exists():
                ended.append((steps, values))
        if ended:
            steps, values = np.mean(ended, axis=0)
            axes.plot(steps, values, color=colour, linewidth=2.2, label=f'{start}, n = {len(ended)}')
    axes.set(title=f'{backbone.name}, {TITLES[protocol]}', xlabel='epoch', ylabel='validation top-1 (%)')
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc='lower right')


def draw_loss(axes: Axes, backbone: Path) -> None:
    """The pixel loss of pre-training."""
    for run in sorted(backbone.glob('pretrain_*')):
        steps, values = curve(run, 'loss_spa')
        axes.plot(steps, values, color=COLOURS['a2mim'])
    axes.set(title=f'{backbone.name}, pre-training', xlabel='step', ylabel='L1 on hidden pixels')


def main(argv: list[str] | None = None) -> None:
    """Print the table and draw the curves."""
    args = parse_args(argv)
    backbones = sorted({path.parent for path in args.runs.glob('*/pretrain_*')})
    if not backbones:
        raise SystemExit(f'error: {args.runs} holds no run of run.sh: give its folder with --runs')
    print('| backbone | protocol | start | test top-1 of each run | mean |\n|---|---|---|---|---|')
    for backbone in backbones:
        for (protocol, start), values in test_accuracies(backbone).items():
            spread = f' +- {np.std(values, ddof=1):.2f}' if len(values) > 1 else ''
            runs = ', '.join(f'{value:.2f}' for value in values)
            print(f'| {backbone.name} | {protocol} | {start} | {runs} | {np.mean(values):.2f}{spread} |')
    figure = Figure(figsize=(15, 3.6 * len(backbones)), layout='constrained')
    grid = figure.subplots(len(backbones), 1 + len(TITLES), squeeze=False)
    for row, backbone in zip(grid, backbones, strict=True):
        draw_loss(row[0], backbone)
        for axes, protocol in zip(row[1:], TITLES, strict=True):
            draw(axes, backbone, protocol)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=80)


if __name__ == '__main__':
    main()
