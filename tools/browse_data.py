"""Draw the images that pre-training sees, with their masks.

python tools/browse_data.py CONFIG --out PICTURE.png
"""

import argparse
import os
import time
from pathlib import Path

PAIRS_IN_A_ROW = 2
CAPTION_LENGTH = 56  # characters


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Draw the images that pre-training sees, with their masks.')
    parser.add_argument('config', help='the config file of a pre-training')
    parser.add_argument('--out', required=True, type=Path, metavar='PICTURE.png', help='the picture to write')
    parser.add_argument('--count', type=int, default=8, help='number of images (default: 8)')
    parser.add_argument(
        '--channels', type=int, nargs='+', help='one or three channels, from 0, of images that are not photos'
    )
    parser.add_argument('--epoch', type=int, default=0, help='epoch, counted from 0 (default: 0)')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='values to overwrite'
    )
    args = parser.parse_args(argv)
    if args.count < 1 or args.epoch < 0:
        parser.error('--count must be at least 1 and --epoch not negative')
    if args.out.suffix.lower() != '.png':
        parser.error(f'--out must end in .png, got {args.out}')
    return args


if __name__ == '__main__':
    parse_args()  # answers --help and mistakes at once: the imports below take seconds

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from a2mim_mm.data.channels import find_loader
from a2mim_mm.data.dataset import files_of, printable
from a2mim_mm.drawing import draw_grid, to_rgb, write_png
from a2mim_mm.engine.config import load_config, require
from a2mim_mm.engine.run_tool import run_tool
from a2mim_mm.errors import InputError
from a2mim_mm.models.fill import Fill
from a2mim_mm.models.masking import resize_mask
from a2mim_mm.registry import MODELS


def check_algorithm(cfg: Config) -> None:
    """Check that the config pre-trains A2MIM, because other models have no masks."""
    name = cfg.model.get('type')
    name = name if isinstance(name, str) else getattr(name, '__name__', str(name))
    if name.rpartition('.')[2] != 'A2MIM':
        raise InputError(f'config {cfg.filename} trains {name}, not a2mim_mm.A2MIM: it has no masks')


def build_loader(cfg: Config, count: int, epoch: int) -> tuple[DataLoader, int]:
    """The loader of the training, without workers and for ``count`` images at a time; and its seed."""
    # Without a seed in the config, each training draws one. The pictures then show one possible training.
    seed = cfg.get('randomness', {}).get('seed') or 0
    loader_cfg = cfg.train_dataloader.copy()
    for name in ('persistent_workers', 'prefetch_factor', 'pin_memory'):
        loader_cfg.pop(name, None)
    loader_cfg.update(batch_size=count, num_workers=0, drop_last=False)
    loader = Runner.build_dataloader(loader_cfg, seed=seed)
    if hasattr(loader.sampler, 'set_epoch'):
        loader.sampler.set_epoch(epoch)
    return loader, seed


def mask_inputs(cfg: Config, batch: dict) -> tuple[dict[str, Tensor], Tensor]:
    """Pre-process, mask and fill a batch as the model does, without building its networks.

    Returns:
        The ``original crop`` and the ``masked input``, (B, C, H, W) in 0..255 for photos, and the mask
        (B, h, w).
    """
    preprocessor_cfg = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    preprocessor = MODELS.build(dict(dict(type='SelfSupDataPreprocessor'), **preprocessor_cfg))
    data = preprocessor(batch, training=True)
    img_bchw = data['inputs'][0] if isinstance(data['inputs'], (list, tuple)) else data['inputs']

    if not all('mask_seed' in sample for sample in data['data_samples']):
        raise InputError(
            "the pipeline packs no mask_seed: it needs dict(type='a2mim_mm.MaskSeed') and "
            "dict(type='PackInputs', algorithm_keys=('mask_seed', 'unreadable'))"
        )
    seeds = [sample.mask_seed for sample in data['data_samples']]
    mask_bhw = MODELS.build(cfg.model.mask).draw(seeds, tuple(img_bchw.shape[2:]))
    mask_b1hw = resize_mask(mask_bhw, img_bchw.shape[2:])[:, None]
    with torch.no_grad():
        filled_bchw = Fill(cfg.model.get('fill', 'mean'), img_bchw.shape[1])(img_bchw, mask_b1hw)
    mean, std = (preprocessor.mean, preprocessor.std) if preprocessor._enable_normalize else (0, 1)
    pictures = {'original crop': img_bchw, 'masked input': filled_bchw}
    return {title: img * std + mean for title, img in pictures.items()}, mask_bhw


def draw(pictures: dict[str, Tensor], captions: list[str]) -> np.ndarray:
    """The pairs of pictures with their captions, ``PAIRS_IN_A_ROW`` in a row; RGB uint8."""
    tiles = [
        draw_grid({title: column[i : i + 1] for title, column in pictures.items()}, caption=caption)
        for i, caption in enumerate(captions)
    ]
    columns = min(PAIRS_IN_A_ROW, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    return np.concatenate(
        [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    )


def describe_samples(samples: list, root: str) -> list[str]:
    """Path and flip of each image."""
    lines = []
    for sample in samples:
        path = printable(os.path.relpath(sample.img_path, root) if root else sample.img_path)
        path = path if len(path) <= CAPTION_LENGTH else '...' + path[3 - CAPTION_LENGTH :]
        lines.append(path + (', flipped' if sample.get('flip') else ''))
    return lines


def describe_mask(mask_bhw: Tensor, size: tuple[int, int], fill: str) -> str:
    """A line about the masks: size of the input, grid and number of hidden patches."""
    hidden = sorted({round(count) for count in mask_bhw.sum((1, 2)).tolist()})
    rows, cols = mask_bhw.shape[1:]
    return (
        f'mask: {size[0]} x {size[1]} pixels, grid of {rows} x {cols}, {" or ".join(map(str, hidden))} of '
        f'{rows * cols} patches hidden ({mask_bhw.mean().item():.1%}), fill: {fill}'
    )


def pipeline_speed(loader: DataLoader, seconds: float = 1.0) -> float:
    """The images per second that one process prepares. Call it after the first batch, which is slower."""
    start = time.perf_counter()
    count = 0
    for key in loader.sampler:
        loader.dataset[key]
        count += 1
        if time.perf_counter() - start > seconds:
            break
    return count / (time.perf_counter() - start)


def main(argv: list[str] | None = None) -> None:
    """Draw the picture, and print what it shows."""
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options)
    require(cfg, ('model', 'train_dataloader'), 'browsed')
    check_algorithm(cfg)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    loader, seed = build_loader(cfg, args.count, args.epoch)
    dataset = loader.dataset
    batch = next(iter(loader))
    pictures, mask_bhw = mask_inputs(cfg, batch)
    if any(map(find_loader, files_of(dataset))):
        pictures, shown = to_rgb(pictures, args.channels)
        print(f'drawn: {shown}')
    else:
        pictures = {title: (img / 255).clamp(0, 1) for title, img in pictures.items()}
    samples = batch['data_samples']
    captions = describe_samples(samples, getattr(dataset, 'data_root', ''))
    write_png(args.out, draw(pictures, captions))

    name = getattr(dataset, 'data_root', type(dataset).__name__)
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    print(f'{len(dataset)} images in {name}; epoch {args.epoch}, seed {seed}')
    print('pipeline: ' + ', '.join(type(step).__name__ for step in steps))
    print(f'speed: {pipeline_speed(loader):.0f} images/s in one process')
    print(describe_mask(mask_bhw, pictures['original crop'].shape[2:], cfg.model.get('fill', 'mean')))
    for number, (sample, caption) in enumerate(zip(samples, captions, strict=True), 1):
        print(f'{number:4d}  {caption}')
        for note in sample.get('unreadable', ()):
            print(f'      in place of {note}')
    print(f'drawn: {args.out}')


if __name__ == '__main__':
    run_tool(main)
