"""List where a mask token can be added in a network: the sites, their maps, and the one found by itself.

python tools/list_sites.py configs/selfsup/a2mim_r50.py
python tools/list_sites.py timm:convnext_tiny
"""

import argparse

TIMM = 'timm:'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='List where a mask token can be added in a network.')
    parser.add_argument('network', help='a config with model.backbone, or timm:NAME')
    parser.add_argument(
        '--image-size',
        type=int,
        nargs='+',
        metavar='N',
        help='side of the images, or height and width (default: that of the training, or of the network)',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='values to overwrite'
    )
    args = parser.parse_args(argv)
    if args.image_size and (len(args.image_size) > 2 or min(args.image_size) < 1):
        parser.error('--image-size takes one or two positive numbers')
    if args.cfg_options and args.network.startswith(TIMM):
        parser.error('--cfg-options overwrite values of a config')
    return args


if __name__ == '__main__':
    parse_args()  # answers --help and mistakes at once: the imports below take seconds

from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from a2mim_mm.backbones import timm_backbone
from a2mim_mm.backbones.dry_run import input_size
from a2mim_mm.backbones.sites import Site, Survey, survey
from a2mim_mm.checkpoints.load import build_network
from a2mim_mm.checkpoints.saved_config import training_size
from a2mim_mm.engine.config import load_config, model_config, require
from a2mim_mm.engine.run_tool import run_tool
from a2mim_mm.errors import InputError


def load(args: argparse.Namespace) -> tuple[nn.Module, tuple[int, int], dict]:
    """The network, height and width of its images, and the model's config if there is one."""
    if args.network.startswith(TIMM):
        network, model, size_hw = timm_backbone(args.network.removeprefix(TIMM)), {}, None
    else:
        cfg = load_config(args.network, args.cfg_options)
        require(cfg, ('model',), 'listed')
        model = model_config(cfg)
        if not isinstance(model.get('backbone'), dict):
            raise InputError(f'config {cfg.filename} has no model.backbone')
        network = build_network({'_scope_': model['_scope_'], **model['backbone']})
        dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
        size_hw = training_size(dataset.get('pipeline') or [])
    if args.image_size:
        size_hw = (args.image_size[0], args.image_size[-1])
    return network, size_hw or input_size(network), model


def listed(found: Survey) -> list[Site]:
    """Blocks, modules that hold blocks, and parts of the network, in the order in which they end."""
    holders = {name[:end] for name in found.blocks for end, sign in enumerate(name) if sign == '.'}
    return [
        site for name, site in found.sites.items() if name in {*found.blocks, *holders} or '.' not in name
    ]


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    args = parse_args(argv)
    network, size_hw, model = load(args)
    found = survey(network, size_hw)
    auto = found.token_site((model.get('mask') or {}).get('patch_size', 32)).name
    marks = {(model.get('mask_token') or {}).get('site'): 'in the config', auto: 'automatic'}
    table = Table(box=box.SIMPLE_HEAD, title=f'{found.network}, images of {size_hw[0]} x {size_hw[1]}')
    for title, justify in dict(
        site='left', layout='left', channels='right', map='right', stride='right'
    ).items():
        table.add_column(title, justify=justify)
    table.add_column('')
    for site in listed(found):
        rows, cols = site.size_hw
        table.add_row(
            site.name,
            site.layout,
            str(site.channels),
            f'{rows} x {cols}',
            str(site.stride),
            marks.get(site.name, ''),
            style='bold' if site.name == auto else '',
        )
    Console().print(table)


if __name__ == '__main__':
    run_tool(main)
