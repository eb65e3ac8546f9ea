"""Evaluate a checkpoint on the test data of its config.

python tools/test.py CONFIG CHECKPOINT
tools/dist_test.sh CONFIG CHECKPOINT GPUS
"""

import argparse
import os
from pathlib import Path

LAUNCHERS = ('none', 'pytorch', 'slurm')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Evaluate a checkpoint.')
    parser.add_argument('config', help='the config file')
    parser.add_argument(
        'checkpoint', help='the checkpoint (.pth or .safetensors), which has to fit the model exactly'
    )
    parser.add_argument('--work-dir', help='where logs go (default: ./work_dirs/CONFIG_NAME)')
    parser.add_argument('--out', type=Path, metavar='METRICS.json', help='write the metrics to a file, too')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='values to overwrite'
    )
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='what started the ranks')
    parser.add_argument('--local-rank', '--local_rank', help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', args.local_rank)
    return args


if __name__ == '__main__':
    parse_args()  # answers --help and mistakes at once: the imports below take seconds

from a2mim_mm.checkpoints import install_safe_loader
from a2mim_mm.engine import console, distributed, machine
from a2mim_mm.engine.config import load_config, require
from a2mim_mm.engine.hooks import HeaderHook, StrictLoadHook
from a2mim_mm.engine.labelled_data import check_labelled_data
from a2mim_mm.engine.run_tool import run_tool
from a2mim_mm.engine.start import set_work_dir
from a2mim_mm.files import write_json


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Evaluate, and return the metrics."""
    args = parse_args(argv)
    install_safe_loader()
    cfg = load_config(args.config, args.cfg_options)
    require(cfg, ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'), 'tested')
    cfg.launcher = args.launcher
    cfg.load_from = args.checkpoint
    cfg.resume = False
    set_work_dir(cfg, args.work_dir)
    machine.fit_workers(cfg)
    notes = dict(
        checkpoint=args.checkpoint, ranks=distributed.init_distributed(cfg), replaced=machine.fit_to_cpu(cfg)
    )
    warnings = check_labelled_data(cfg, ('test',))
    runner = console.build_runner(cfg)
    for warning in warnings:
        runner.logger.warning(warning)
    runner.register_hook(HeaderHook(notes))
    runner.register_hook(StrictLoadHook(args.checkpoint, resume=False))
    metrics = runner.test()
    if args.out is not None and runner.rank == 0:
        write_json(
            args.out,
            {name: value if isinstance(value, str) else float(value) for name, value in metrics.items()},
        )
    return metrics


if __name__ == '__main__':
    run_tool(main)
