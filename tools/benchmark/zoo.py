"""Measure the networks of configs/selfsup/zoo and write their table: sizes, sites and speed.

python tools/benchmark/zoo.py [NAME ...]
"""

import argparse
from pathlib import Path

ZOO = Path(__file__).resolve().parents[2] / 'configs' / 'selfsup' / 'zoo'
TABLE = ZOO / 'README.md'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    names = sorted(path.stem for path in ZOO.glob('*.py'))
    parser = argparse.ArgumentParser(description='Measure the networks of configs/selfsup/zoo.')
    parser.add_argument('names', nargs='*', metavar='NAME', help='some of them (default: all)')
    parser.add_argument('--batch', type=int, default=4, help='images in a step (default: 4)')
    parser.add_argument('--steps', type=int, default=3, help='steps, of which the median counts (default: 3)')
    args = parser.parse_args(argv)
    unknown = [name for name in args.names if name not in names]
    if unknown:
        parser.error(f'{ZOO} has no {", ".join(unknown)}')
    if min(args.batch, args.steps) < 1:
        parser.error('--batch and --steps must be positive')
    args.names = args.names or names
    return args


if __name__ == '__main__':
    parse_args()  # answers --help and mistakes at once: the imports below take seconds

import statistics
import time

import torch
from mmpretrain.structures import DataSample
from torch.utils.flop_counter import FlopCounterMode

from a2mim_mm.backbones.dry_run import dry_run
from a2mim_mm.checkpoints.load import build_network
from a2mim_mm.engine.config import load_config, model_config
from a2mim_mm.engine.run_tool import run_tool
from a2mim_mm.files import write_whole
from a2mim_mm.models import A2MIM

SIZE = 224


def count_macs(backbone: torch.nn.Module) -> float:
    """Multiply-accumulates of a forward pass of one image, in 1e9."""

    def count(network: torch.nn.Module, images: torch.Tensor) -> int:
        with FlopCounterMode(display=False) as counter:
            network(images)
        return counter.get_total_flops()

    return dry_run(backbone, (1, 3, SIZE, SIZE), count) / 2e9


def images_per_second(model: A2MIM, batch: int, steps: int) -> float:
    """Images a second, forward and backward with both losses; the median of some steps after one."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model.to(device).train()
    images = torch.randn(batch, 3, SIZE, SIZE, device=device)
    samples = [DataSample() for _ in range(batch)]
    for seed, sample in enumerate(samples):
        sample.set_field(seed, 'mask_seed')
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        sum(model.loss([images], samples).values()).backward()
        if device == 'cuda':
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return batch / statistics.median(seconds[1:])


def measure(name: str, args: argparse.Namespace) -> str:
    """The row of a network."""
    torch.manual_seed(0)
    model = build_network(model_config(load_config(str(ZOO / f'{name}.py'))))
    parameters = sum(parameter.numel() for parameter in model.backbone.parameters()) / 1e6
    macs = count_macs(model.backbone)
    site, decoder = model.found.removeprefix('token added after ').split('; decoder ')
    speed = images_per_second(model, args.batch, args.steps)
    return f'| `{name}` | {parameters:.1f} | {macs:.2f} | {site} | {decoder} | {speed:.1f} |'


def write_row(name: str, row: str) -> None:
    """Put a row into the table, in the order of the names."""
    lines = TABLE.read_text().splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith('|---')) + 1
    rows = {line.split('`')[1]: line for line in lines[first:] if line.startswith('|')}
    rest = lines[first + len(rows) :]
    rows[name] = row
    with write_whole(TABLE) as draft:
        draft.write_text('\n'.join([*lines[:first], *(rows[key] for key in sorted(rows)), *rest]) + '\n')


def main(argv: list[str] | None = None) -> None:
    """Measure, and write the rows one by one, so that a stopped run keeps what it has."""
    args = parse_args(argv)
    for name in args.names:
        row = measure(name, args)
        print(row, flush=True)
        write_row(name, row)


if __name__ == '__main__':
    run_tool(main)
