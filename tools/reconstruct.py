"""Draw what a pre-trained model reconstructs (Figures 5, A2 and A3 of the paper).

python tools/reconstruct.py CHECKPOINT --images PHOTO.jpg FOLDER --out GRID.png
python tools/reconstruct.py CHECKPOINT --compare CHECKPOINT ... --images FOLDER --out GRID.png
"""

import argparse
from pathlib import Path


def checkpoint_name(path: str) -> str:
    """The name of a checkpoint without --names: folder and file, such as ``a2mim_vit-b/epoch_800``."""
    return '/'.join(Path(path).with_suffix('').parts[-2:])


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Draw what a pre-trained model reconstructs.')
    parser.add_argument(
        'checkpoint', help='a checkpoint of a pre-training, which says how its network is built'
    )
    parser.add_argument(
        '--config', help='the config of the pre-training, for a checkpoint that does not say it'
    )
    parser.add_argument(
        '--images', required=True, nargs='+', type=Path, help='image files and folders of them'
    )
    parser.add_argument('--out', required=True, type=Path, metavar='GRID.png', help='where to draw the grid')
    others = parser.add_mutually_exclusive_group()
    others.add_argument(
        '--no-token', action='store_true', help='leave the mask token out, to see what it carries'
    )
    others.add_argument(
        '--compare',
        nargs='+',
        default=[],
        metavar='CHECKPOINT',
        help='checkpoints of other pre-trainings, to draw beside it under the same masks',
    )
    parser.add_argument(
        '--names', nargs='+', help='titles in a comparison, one for each checkpoint (default: its path)'
    )
    parser.add_argument(
        '--channels',
        type=int,
        nargs='+',
        help='one or three channels, from 0, that are drawn of images that are not photos (default: 0 1 2)',
    )
    parser.add_argument(
        '--value-range',
        type=float,
        nargs=2,
        metavar=('BLACK', 'WHITE'),
        help='what is drawn black and white of them, in the units of mean and std (default: 1 %% and 99 %%)',
    )
    parser.add_argument('--count', type=int, default=8, help='number of images at most (default: 8)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the masks (default: 0)')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='values to overwrite'
    )
    args = parser.parse_args(argv)
    if args.count < 1:
        parser.error(f'--count must be at least 1, got {args.count}')
    if args.out.suffix.lower() != '.png':
        parser.error(f'--out must end in .png, got {args.out}')
    if args.cfg_options and not args.config:
        parser.error('--cfg-options overwrite values of a config: --config CONFIG')
    checkpoints = [args.checkpoint, *args.compare]
    if args.names and not args.compare:
        parser.error('--names are titles of a comparison: --compare CHECKPOINT ...')
    args.names = args.names or [checkpoint_name(path) for path in checkpoints]
    if len(args.names) != len(checkpoints):
        parser.error(f'--names: {len(args.names)} names for {len(checkpoints)} checkpoints')
    if len({*args.names, 'original', 'masked'}) != len(args.names) + 2:
        parser.error(f'--names must differ, also from original and masked, got {", ".join(args.names)}')
    return args


if __name__ == '__main__':
    parse_args()  # --help and mistakes are answered at once: the imports below take seconds

import torch
from torch import Tensor

from a2mim_mm.apis import load_model
from a2mim_mm.checkpoints import install_safe_loader, load_checkpoint_file
from a2mim_mm.checkpoints.load import load_network
from a2mim_mm.checkpoints.saved_config import channels_loader, training_size
from a2mim_mm.data.channels import EXTENSIONS, LoadChannels, read_channels
from a2mim_mm.data.reading import list_images, read_image, spread
from a2mim_mm.drawing import draw_grid, to_rgb, write_png
from a2mim_mm.engine.config import load_config, model_config, require
from a2mim_mm.engine.run_tool import run_tool
from a2mim_mm.errors import InputError
from a2mim_mm.models import A2MIM
from a2mim_mm.models.reconstruct import draw_mask, reconstruct_channels
from a2mim_mm.models.reconstruct import reconstruct as draw_pixels


def load(args: argparse.Namespace) -> A2MIM:
    """The pre-trained model, as its checkpoint or the config says.

    Raises:
        ValueError: If the config builds another kind of model, or the checkpoint does not fit it.
    """
    if args.config is None:
        return load_model(args.checkpoint)
    cfg = load_config(args.config, args.cfg_options)
    require(cfg, ('model', 'train_dataloader'), 'drawn')
    size_hw = training_size(cfg.train_dataloader.dataset.pipeline)
    if size_hw is None:
        raise InputError(
            f'config {cfg.filename} has no RandomResizedCrop in its training pipeline to tell the input size'
        )
    model = load_network(model_config(cfg), load_checkpoint_file(args.checkpoint), args.checkpoint)
    if not isinstance(model, A2MIM):
        raise InputError(
            f'config {cfg.filename} builds a {type(model).__name__}: only A2MIM reconstructs images'
        )
    loader = channels_loader(cfg.train_dataloader.dataset.pipeline)
    model.pretrained_cfg = dict(input_size=(model.in_channels, *size_hw), loader=loader)
    print(f'built as {args.config} says')
    return model


def read(model: A2MIM, images: list[Path], count: int) -> tuple[list[Path], Tensor]:
    """Paths of at most so many images, and the images as the model was trained on them."""
    settings, size_hw = model.pretrained_cfg.get('loader'), model.pretrained_cfg['input_size'][1:]
    if settings is None:
        paths = spread(list_images(images), count)
        return paths, torch.stack([read_image(path, size_hw) for path in paths])
    paths, loader = spread(list_images(images, EXTENSIONS), count), LoadChannels(**settings)
    return paths, torch.stack([read_channels(loader, path, size_hw) for path in paths])


def reconstruct(
    model: A2MIM, img_bchw: Tensor, mask_bhw: Tensor, use_token: bool = True
) -> dict[str, Tensor]:
    """The pictures of ``models.reconstruct``, computed on a GPU if there is one, and brought to the CPU."""
    model.to('cuda' if torch.cuda.is_available() else 'cpu')
    device = next(model.parameters()).device
    draw = reconstruct_channels if model.pretrained_cfg.get('loader') else draw_pixels
    pictures = draw(model, img_bchw.to(device), mask_bhw, use_token=use_token)
    return {title: picture.cpu() for title, picture in pictures.items()}


def compare(
    names: list[str], composites: list[Tensor], img_bchw: Tensor, mask_bhw: Tensor, unit: float
) -> str:
    """How far each model is from the hidden pixels, on average, in ``1 / unit``."""
    errors = [(composite - img_bchw).abs().mean() / mask_bhw.mean() for composite in composites]
    return ', '.join(f'{name} {unit * error:.2f}' for name, error in zip(names, errors, strict=True))


def main(argv: list[str] | None = None) -> None:
    """Draw."""
    args = parse_args(argv)
    install_safe_loader()
    model = load(args)
    paths, img_bchw = read(model, args.images, args.count)
    not_photos = model.pretrained_cfg.get('loader')
    if not not_photos and (args.channels or args.value_range):
        raise InputError('--channels and --value-range are for images of LoadChannels: leave them out')
    # Differences are told in grey levels of photos, and in the units of mean and std of other images.
    unit, units = (1, 'units of the mean') if not_photos else (255, 'of 255')
    mask_bhw = draw_mask(model, img_bchw, args.seed)
    pictures = reconstruct(model, img_bchw, mask_bhw)
    caption = Path(args.checkpoint).name
    if args.no_token:
        with_token, pictures = pictures, reconstruct(model, img_bchw, mask_bhw, use_token=False)
        diff = unit * (pictures['prediction'] - with_token['prediction']).abs()
        caption += ', without the mask token'
        print(
            f'without the token the prediction changes by {diff.mean():.2f} {units}, {diff.max():.0f} at most'
        )
    if args.compare:
        others = [reconstruct(load_model(path), img_bchw, mask_bhw) for path in args.compare]
        composites = [columns['composite'] for columns in (pictures, *others)]
        caption = f'off by {compare(args.names, composites, img_bchw, mask_bhw, unit)} {units}, where hidden'
        pictures = dict(original=pictures['original'], masked=pictures['masked'])
        pictures |= zip(args.names, composites, strict=True)
        print(caption)
    if not_photos:
        pictures, shown = to_rgb(pictures, args.channels, args.value_range)
        caption = f'{caption}, {shown}'
    write_png(args.out, draw_grid(pictures, caption=caption, max_rows=args.count))
    for path in paths:
        print(path)
    print(f'drawn: {args.out}')


if __name__ == '__main__':
    run_tool(main)
