"""Convert the encoder in a checkpoint from any known format to another, and prove that it computes the same.

python tools/convert_checkpoint.py mae_pretrain_vit_base.pth mae_vit-b.safetensors --to mmdet

The formats, and what each keeps: docs/checkpoints.md. Checkpoints are read as data; nothing in them is run.
"""

import argparse
import logging
import warnings
from pathlib import Path

FORMATS = (
    *('a2mim', 'mmpretrain', 'mmdet', 'mmseg', 'timm'),
    *('torchvision', 'detectron2', 'huggingface', 'onnx'),
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Convert the encoder in a checkpoint to another format; prove that it computes the same.',
        epilog='The formats, and what each keeps: docs/checkpoints.md.',
    )
    parser.add_argument('source', type=Path, metavar='SRC', help='.pth, .safetensors, or .pkl of detectron2')
    parser.add_argument(
        'target', type=Path, metavar='DST', help='file to write, .safetensors or .pth (.pkl, .onnx, a folder)'
    )
    parser.add_argument('--to', required=True, choices=FORMATS, help='format to write')
    parser.add_argument(
        '--from',
        dest='origin',
        default='auto',
        metavar='FORMAT',
        help='format of SRC (default: told from its names; an unknown one lists all)',
    )
    parser.add_argument(
        '--arch', help='where weights do not tell the number of heads: heads=N, or a ViT: deit-small'
    )
    parser.add_argument('--entry', help='which of several state dicts in SRC, such as ema or student')
    parser.add_argument('--img-size', type=int, metavar='N', help='resample positions to images of N pixels')
    parser.add_argument(
        '--timm-model', metavar='NAME', help='timm model that is to hold it (default: one that does)'
    )
    parser.add_argument('--no-verify', action='store_true', help='write without comparing the two networks')
    parser.add_argument(
        '--trust',
        action='store_true',
        help='unpickle SRC as it is, WHICH RUNS CODE IN IT: for files of your own',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # --help and mistakes are answered at once: the imports below take seconds

from a2mim_mm.convert import convert_checkpoint
from a2mim_mm.engine.run_tool import run_tool


def main(argv: list[str] | None = None) -> dict:
    """Convert; returns the report."""
    args = parse_args(argv)
    logging.getLogger('onnxscript').setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', category=DeprecationWarning)
        return convert_checkpoint(
            args.source,
            args.target,
            args.to,
            args.origin,
            arch=args.arch,
            entry=args.entry,
            img_size=args.img_size,
            timm_model=args.timm_model,
            verify=not args.no_verify,
            trust=args.trust,
        )


if __name__ == '__main__':
    run_tool(main)
