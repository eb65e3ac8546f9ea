"""What each of two ranks does: one tool after another, in one process group."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from helpers.toy_training import tool
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from a2mim_mm.checkpoints.load import unwrap
from a2mim_mm.engine.run_tool import run_tool


@HOOKS.register_module()
class KeepEnd(Hook):
    """Saves the weights that a rank ends with."""

    def after_train(self, runner):
        torch.save(unwrap(runner.model).state_dict(), f'{runner.work_dir}/end_{os.environ["RANK"]}.pth')


@HOOKS.register_module()
class BreakRank(Hook):
    """Makes the loss of one rank infinite, in its third iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 2 and os.environ['RANK'] == '1':
            unwrap(runner.model).decoder.bias.data.fill_(float('inf'))


def error_of(name, *args):
    """Type and message of the error that a tool ends with."""
    try:
        tool(name).main([*args, '--launcher', 'pytorch'])
    except Exception as error:
        return f'{type(error).__name__}: {error}'


def run(rank, folder, commands):
    """Run [tool, argument, ...] in the folder, one after another, and end as the last one ends.

    Writes the errors of the others into errors_RANK.json, and what the last one prints into output_RANK.txt.
    """
    os.chdir(folder)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', CUDA_VISIBLE_DEVICES='')
    os.environ.update(MASTER_ADDR='localhost', MASTER_PORT='0')  # asked for, not used: the store is a file
    sys.stdout = sys.stderr = open(f'output_{rank}.txt', 'w', buffering=1)
    torch.set_num_threads(1)
    dist.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    dist.init_process_group = lambda backend: None  # each of the tools would do so
    *others, (name, *args) = commands
    Path(f'errors_{rank}.json').write_text(json.dumps([error_of(*command) for command in others]))
    run_tool(lambda: tool(name).main([*args, '--launcher', 'pytorch']))
