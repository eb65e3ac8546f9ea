"""What each of two ranks does in one launch: one tool after another, in one process group.

Takes a JSON file with a list of [tool, argument, ...]. Writes the errors of each rank into errors_RANK.json,
and ends as the last tool ends.
"""

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

RANK = os.environ.get('RANK', '0')


@HOOKS.register_module()
class KeepEnd(Hook):
    """Saves the weights that a rank ends with."""

    def after_train(self, runner):
        torch.save(unwrap(runner.model).state_dict(), Path(runner.work_dir) / f'end_{RANK}.pth')


@HOOKS.register_module()
class BreakRank(Hook):
    """Makes the loss of one rank infinite, in its third iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 2 and RANK == '1':
            unwrap(runner.model).decoder.bias.data.fill_(float('inf'))


def error_of(name, *args):
    """Type and message of the error that a tool ends with."""
    try:
        tool(name).main([*args, '--launcher', 'pytorch'])
    except Exception as error:
        return f'{type(error).__name__}: {error}'


if __name__ == '__main__':
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    dist.init_process_group = lambda backend: None  # each of the tools would do so
    *commands, (last, *argv) = json.loads(Path(sys.argv[1]).read_text())
    errors = [error_of(*command) for command in commands]
    Path(f'errors_{RANK}.json').write_text(json.dumps(errors))
    run_tool(lambda: tool(last).main([*argv, '--launcher', 'pytorch']))
