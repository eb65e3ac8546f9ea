"""Classify test images by the nearest training images in feature space: a check that needs no training.

python tools/knn.py configs/classification/r50_a2mim_linear-100e.py --pretrained CHECKPOINT

One process. All training features stay on the device: of ImageNet-1K and ResNet-50, by arithmetic, 10.5 GB,
and up to three times that at the peak.
"""

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Classify by nearest neighbours of frozen features.')
    parser.add_argument(
        'config', help='config of a classifier, best of a linear probe: backbone, neck and data'
    )
    parser.add_argument(
        '--pretrained',
        metavar='PATH',
        help='checkpoint with the backbone, .pth or .safetensors (default: a random start)',
    )
    parser.add_argument('--k', type=int, default=20, help='number of neighbours (default: 20)')
    parser.add_argument(
        '--temperature',
        type=float,
        default=0.07,
        help='of the votes; smaller: the nearest count more (default: 0.07)',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of a random start (default: 0)')
    parser.add_argument('--out', type=Path, metavar='METRICS.json', help='write the result to a file as well')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='values to overwrite'
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # --help and mistakes are answered at once: the imports below take seconds

from a2mim_mm.analysis.knn import run
from a2mim_mm.engine.run_tool import run_tool


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Classify; returns top-1 and top-5 accuracy in percent."""
    return run(parse_args(argv))


if __name__ == '__main__':
    run_tool(main)
