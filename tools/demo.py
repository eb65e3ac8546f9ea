"""Run the demonstration of `make demo`: A2MIM learns to reconstruct a dozen photos on a CPU in minutes."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line. There are no arguments."""
    return argparse.ArgumentParser(description=__doc__).parse_args(argv)


if __name__ == '__main__':
    parse_args()  # answers --help and mistakes at once: the imports below take seconds

from rich.console import Console

from a2mim_mm.data.sample_photos import export_sample_photos

ROOT = Path(__file__).resolve().parents[1]
NAMES = ('demo_vit', 'demo_resnet')
PHOTOS = 'data/sample_photos'  # data_root of configs/_base_/demo.py, relative to ROOT


def train(name: str, console: Console) -> Path:
    """Pre-train one model, or resume an earlier run; returns its work directory."""
    work_dir = ROOT / 'work_dirs' / name
    work_dir.mkdir(parents=True, exist_ok=True)
    log = work_dir / 'train.log'
    console.print(f'\n[bold]{name}[/]: configs/selfsup/{name}.py, whole log in {log.relative_to(ROOT)}')
    command = [sys.executable, '-u', 'tools/train.py', f'configs/selfsup/{name}.py']
    command += ['--resume', '--work-dir', str(work_dir)]
    with log.open('a') as file:
        with subprocess.Popen(command, cwd=ROOT, stdout=PIPE, stderr=STDOUT, text=True) as process:
            for line in process.stdout:
                file.write(line)
                if 'Epoch(train)' in line:
                    console.print('  ' + line.partition('INFO - ')[2].strip(), style='dim')
    if process.returncode:
        tail = log.read_text().splitlines()[-15:]
        raise SystemExit('\n'.join([*tail, f'{name} failed, exit status {process.returncode}; see {log}']))
    return work_dir


def losses(work_dir: Path) -> tuple[float, float]:
    """The first and the last loss in the logs of a work directory."""
    values = []
    for scalars in sorted(work_dir.glob('*/vis_data/scalars.json')):
        values += [row['loss'] for row in map(json.loads, scalars.read_text().splitlines()) if 'loss' in row]
    return values[0], values[-1]


def last_checkpoint(work_dir: Path) -> Path:
    """The checkpoint of the last epoch."""
    return max(work_dir.glob('epoch_*.pth'), key=lambda path: int(path.stem.partition('_')[2]))


def last_picture(work_dir: Path) -> Path:
    """The grid of the last epoch."""
    return max(work_dir.glob('reconstructions/epoch_*.png'))


def main() -> None:
    """Train both models and print the results."""
    console = Console(soft_wrap=True, highlight=False)
    photos = export_sample_photos(ROOT / PHOTOS)
    console.print(f'{len(photos)} photos that come with scikit-image and scikit-learn: {PHOTOS}')
    summary = []
    for name in NAMES:
        work_dir = train(name, console)
        first, last = losses(work_dir)
        checkpoint = last_checkpoint(work_dir).relative_to(ROOT)
        summary += [
            f'[bold]{name}[/]: loss {first:.3f} at first, {last:.3f} at last',
            f'  pictures:   {last_picture(work_dir).relative_to(ROOT)}',
            f'  checkpoint: {checkpoint}',
        ]
    console.print(
        '',
        *summary,
        'Each row of a picture: original, what the network sees, what it predicts, prediction in the holes.',
        'Next, your own pictures, with the same model:',
        f'  .venv/bin/python tools/reconstruct.py {checkpoint} --images {PHOTOS} --out work_dirs/grid.png',
        sep='\n',
    )


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('\ninterrupted: run it again to continue')
