"""``a2mim pretrain``: :func:`a2mim_mm.pretrain` as a command."""

import argparse
from pathlib import Path


def number(text: str) -> int | str:
    """A whole number, or ``auto``."""
    return text if text == 'auto' else int(text)


def size(text: str) -> int | tuple[int, int]:
    """``224``, or height and width, ``96x128``."""
    sides = tuple(int(side) for side in text.split('x'))
    if len(sides) > 2 or min(sides) < 1:
        raise ValueError
    return sides[0] if len(sides) == 1 else sides


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='a2mim pretrain', description='Pre-train a network on a folder of images, without labels.'
    )
    parser.add_argument('--data', required=True, type=Path, help='folder of images, nested or not')
    parser.add_argument(
        '--backbone',
        help='resnet50, vit_base, convnext_tiny or another name of configs/selfsup/zoo, or timm:NAME '
        '(default: the network in the file of --from, or else resnet50)',
    )
    parser.add_argument('--out', required=True, type=Path, help='folder for config, checkpoints and pictures')
    parser.add_argument('--image-size', type=size, default=224, metavar='N|HxW', help='pixels (default: 224)')
    for name, text in (
        ('mask-patch-size', 'side of a mask patch in pixels (default: a sixth to an eighth of the image)'),
        ('epochs', 'how often each image is seen (default: the more, the fewer images there are)'),
        ('batch-size', 'images of a process in one step (default: what suits data and memory)'),
        ('workers', 'processes that decode images (default: one a core)'),
    ):
        parser.add_argument(f'--{name}', type=number, default='auto', metavar='N', help=text)
    parser.add_argument(
        '--from', dest='pretrained', metavar='PATH', help='file of weights from which the backbone starts'
    )
    parser.add_argument('--seed', type=int, default=0, help='of weights, crops and masks (default: 0)')
    parser.add_argument(
        '--amp',
        action=argparse.BooleanOptionalAction,
        help='mixed precision on or off (default: on with a GPU)',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace another pre-training in the folder')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Pre-train, and say what can be done next."""
    args = parse_args(argv)  # mistakes are answered at once: the imports below take seconds
    from mmengine.dist import get_rank

    from a2mim_mm.engine.run_tool import run_tool
    from a2mim_mm.pretraining.run import pretrain

    def run() -> None:
        checkpoint = pretrain(**vars(args))
        if get_rank():
            return
        print(
            f'\ntrained: {checkpoint}\nnext:\n'
            f'  a2mim reconstruct {args.out} --images {args.data} --out {args.out / "grid.png"}\n'
            f'  a2mim embed {args.out} --images {args.data} --out {args.out / "features.npz"}\n'
            f'  a2mim export {args.out} {args.out / "exported.safetensors"} --to LIBRARY'
        )

    run_tool(run, after_interrupt='the same command continues from the last checkpoint')
