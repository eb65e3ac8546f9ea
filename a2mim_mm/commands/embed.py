"""``a2mim embed``: features of images, in a file."""

import argparse
from pathlib import Path

SUFFIXES = ('.npz', '.parquet')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='a2mim embed', description='Write the features of images to a file.'
    )
    parser.add_argument('checkpoint', help='folder of a training, or a checkpoint')
    parser.add_argument(
        '--images', required=True, nargs='+', type=Path, help='image files and folders of them'
    )
    parser.add_argument(
        '--out',
        required=True,
        type=Path,
        metavar='FILE.npz|FILE.parquet',
        help='file to write: names (N,) and features (N, C)',
    )
    parser.add_argument(
        '--maps', action='store_true', help='features with their positions, (N, C, h, w), not their mean'
    )
    parser.add_argument('--batch-size', type=int, default=32, help='images at once (default: 32)')
    args = parser.parse_args(argv)
    if args.out.suffix not in SUFFIXES:
        parser.error(f'--out must end in {" or ".join(SUFFIXES)}, got {args.out}')
    if args.maps and args.out.suffix == '.parquet':
        parser.error('--maps are written to .npz: a Parquet table has one vector for each image')
    if args.batch_size < 1:
        parser.error(f'--batch-size must be at least 1, got {args.batch_size}')
    return args


def main(argv: list[str] | None = None) -> None:
    """Write features."""
    args = parse_args(argv)  # mistakes are answered at once: the imports below take seconds
    from a2mim_mm.engine.run_tool import run_tool

    run_tool(lambda: embed(args), after_interrupt='nothing was written')


def embed(args: argparse.Namespace) -> None:
    """Compute the features and write the file, whole or not at all."""
    import torch
    from rich.progress import track

    from a2mim_mm.apis import iterate_features, load_backbone
    from a2mim_mm.checkpoints import install_safe_loader
    from a2mim_mm.data.reading import list_images
    from a2mim_mm.libraries import optional_library

    from .tool import checkpoint_of

    if args.out.suffix == '.parquet':
        optional_library('pyarrow', install='pyarrow')  # before the features are computed
    install_safe_loader()
    backbone = load_backbone(checkpoint_of(args.checkpoint))
    backbone.to('cuda' if torch.cuda.is_available() else 'cpu')
    paths = list_images(args.images)
    images = track(paths, description='features')
    batches = iterate_features(backbone, images, batch_size=args.batch_size, pool=not args.maps)
    features = torch.cat([batch[-1] for batch in batches]).numpy()
    _write(args.out, [str(path) for path in paths], features)
    print(f'features of {len(paths):,} images, {features.shape[1:]} each: {args.out}')


def _write(path: Path, names: list[str], features: object) -> None:
    import numpy as np

    from a2mim_mm.files import write_whole

    with write_whole(path) as draft:
        if path.suffix == '.npz':
            with draft.open('wb') as file:
                np.savez(file, names=np.array(names), features=features)
        else:
            from a2mim_mm.libraries import optional_library

            arrow, parquet = (optional_library(name) for name in ('pyarrow', 'pyarrow.parquet'))
            parquet.write_table(arrow.table(dict(name=names, feature=list(features))), draft)
