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

from mmengine.config import Config
from mmengine.runner import Runner

from a2mim_mm.checkpoints import install_safe_loader
from a2mim_mm.engine import console, distributed, machine
from a2mim_mm.engine.config import check_channels, load_config, require
from a2mim_mm.engine.hooks import FiniteHook, HeaderHook, ScheduleHook, StrictLoadHook, start_from_pretrained
from a2mim_mm.engine.labelled_data import check_labelled_data
from a2mim_mm.engine.run_tool import run_tool
from a2mim_mm.engine.schedule import allow_short_training
from a2mim_mm.engine.start import check_epoch, check_work_dir, set_start, set_work_dir


def build_runner(cfg: Config, args: argparse.Namespace) -> Runner:
    """Fit the config to this machine and build a Runner. Its log says what was changed."""
    require(cfg, ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'), 'trained')
    cfg.launcher = args.launcher
    check_channels(cfg)
    set_work_dir(cfg, args.work_dir)
    check_work_dir(cfg, args.resume, args.overwrite)
    machine.fit_workers(cfg)
    cfg.setdefault('default_hooks', {}).setdefault('runtime_info', dict(type='a2mim_mm.OneLrHook'))
    notes = dict(
        ranks=distributed.init_distributed(cfg),
        precision=machine.set_precision(cfg, args.amp),
        replaced=machine.fit_to_cpu(cfg),
        lr=machine.scale_lr(cfg),
        start=set_start(cfg, args.resume, args.pretrained),
    )
    warnings = check_labelled_data(cfg)
    runner = console.build_runner(cfg)
    for warning in warnings:
        runner.logger.warning(warning)
    for hook in (FiniteHook(), ScheduleHook(), HeaderHook(notes)):
        runner.register_hook(hook)
    if cfg.resume:
        runner.register_hook(StrictLoadHook(cfg.load_from, resume=True))
    elif args.pretrained:
        start_from_pretrained(runner, args.pretrained)
    elif cfg.get('load_from'):
        remedy = f'. load_from needs a whole model; for a backbone use --pretrained {cfg.load_from}'
        runner.register_hook(StrictLoadHook(cfg.load_from, resume=False, remedy=remedy))
    check_epoch(runner)
    allow_short_training(runner)
    return runner


def main(argv: list[str] | None = None) -> None:
    """Train."""
    args = parse_args(argv)
    install_safe_loader()
    runner = build_runner(load_config(args.config, args.cfg_options), args)
    runner.train()


if __name__ == '__main__':
    run_tool(main)
