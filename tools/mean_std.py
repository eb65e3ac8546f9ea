"""Measure mean and standard deviation of each channel, over all pixels of all images below a folder.

python tools/mean_std.py FOLDER --out mean_std.json
python tools/mean_std.py FOLDER --channels 13 --value-range 0 10000 --out mean_std.json

The same command again goes on where it was stopped.
"""

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Measure mean and standard deviation of images.')
    parser.add_argument('folder', type=Path, help='the folder, nested or not')
    parser.add_argument(
        '--channels', type=int, help='number of channels, for LoadChannels (default: photos in RGB)'
    )
    parser.add_argument(
        '--value-range',
        type=float,
        nargs=2,
        metavar=('LOW', 'HIGH'),
        help='what LoadChannels makes 0 and 255 (default: the units of the files)',
    )
    parser.add_argument(
        '--out', required=True, type=Path, metavar='RESULT.json', help='where the result goes'
    )
    parser.add_argument(
        '--every', type=int, default=1000, help='images after which the result is saved (default: 1000)'
    )
    args = parser.parse_args(argv)
    if args.every < 1:
        parser.error(f'--every must be at least 1, got {args.every}')
    if args.value_range and args.channels is None:
        parser.error('--value-range is for images of LoadChannels: --channels C')
    return args


if __name__ == '__main__':
    parse_args()  # --help and mistakes are answered at once: the imports below take seconds

from functools import partial

import numpy as np
from rich.progress import track

from a2mim_mm.data.channels import EXTENSIONS, LoadChannels
from a2mim_mm.data.mean_std import Moments, measure
from a2mim_mm.data.reading import list_images
from a2mim_mm.data.transforms import LoadImage
from a2mim_mm.engine.run_tool import run_tool


def read(transform: LoadImage | LoadChannels, path: Path) -> np.ndarray:
    """An image (H, W, C) as the training sees it; photos in RGB."""
    image = transform(dict(img_path=str(path)))['img']
    return image[:, :, ::-1] if isinstance(transform, LoadImage) else image


def main(argv: list[str] | None = None) -> Moments:
    """Measure, and print the lines for a config."""
    args = parse_args(argv)
    photos = args.channels is None
    transform = LoadImage() if photos else LoadChannels(args.channels, args.value_range)
    paths = list_images(args.folder, None if photos else EXTENSIONS)
    settings = dict(channels=3 if photos else args.channels, value_range=args.value_range, photos=photos)
    progress = partial(track, description='images')
    moments = measure(paths, partial(read, transform), settings, args.out, args.every, progress)
    for note in moments.unreadable:
        print(f'left out {note}')
    same = [channel for channel, std in enumerate(moments.std) if not std]
    if same:
        print(f'channels with the same value everywhere: {same}; a std of 0 is refused, so leave them out')
    print(f'{moments.done - len(moments.unreadable):,} images, {moments.pixels:,} pixels: {args.out}')
    for name in ('mean', 'std'):
        print(f'{name} = [{", ".join(f"{value:.6g}" for value in getattr(moments, name))}]')
    return moments


if __name__ == '__main__':
    run_tool(main, after_interrupt='the same command again goes on from the last save')
