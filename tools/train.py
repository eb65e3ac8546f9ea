"""Train the model of a config: pre-training, classification, detection or segmentation.

python tools/train.py CONFIG [--pretrained CHECKPOINT]
tools/dist_train.sh CONFIG GPUS
"""

import argparse
import os

LAUNCHERS = ('none', 'pytorch', 'slurm')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Train a model from a config.')
    parser.add_argument('config', help='the config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: ./work_dirs/CONFIG_NAME)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='continue from a checkpoint (default: the last one in the work dir, if there is one)',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='replace the training that the work dir holds',
    )
    parser.add_argument(
        '--pretrained',
        metavar='PATH',
        help='start from the backbone in a checkpoint (.pth or .safetensors), which has to fill it; '
        'ignored if --resume finds a checkpoint',
    )
    parser.add_argument(
        '--amp',
        action=argparse.BooleanOptionalAction,
        help="mixed precision on or off (default: the config's amp_dtype on a GPU, float32 on the CPU)",
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='values to overwrite'
    )
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='what started the ranks')
    # What `mim train` and torch.distributed.launch pass.
    parser.add_argument('--gpus', type=int, choices=(0, 1), help=argparse.SUPPRESS)
    parser.add_argument('--device', choices=('cpu', 'cuda'), help=argparse.SUPPRESS)
    parser.add_argument('--local-rank', '--local_rank', help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.pretrained == '':
        parser.error('--pretrained: the path is empty')
    if args.device == 'cpu' or args.gpus == 0:
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    if args.local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', args.local_rank)
    return args


if __name__ == '__main__':
    parse_args()  # answers --help and mistakes at once: the imports below take seconds

from a2mim_mm.checkpoints import install_safe_loader
from a2mim_mm.engine.config import load_config
from a2mim_mm.engine.run_tool import run_tool
from a2mim_mm.engine.training import build_training


def main(argv: list[str] | None = None) -> None:
    """Train."""
    args = parse_args(argv)
    install_safe_loader()
    build_training(
        load_config(args.config, args.cfg_options),
        work_dir=args.work_dir,
        resume=args.resume,
        overwrite=args.overwrite,
        pretrained=args.pretrained,
        amp=args.amp,
        launcher=args.launcher,
    ).train()


if __name__ == '__main__':
    run_tool(main)
