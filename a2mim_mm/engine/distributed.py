"""Joins the ranks that a launcher started, and leaves them at the end."""

import gc
import os
import subprocess

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.dist import get_world_size, init_dist
from mmengine.utils.dl_utils import set_multi_processing

from a2mim_mm.errors import InputError

LAUNCHERS = ('none', 'pytorch', 'slurm')


def init_distributed(cfg: Config) -> str:
    """Join the ranks that ``cfg.launcher`` started: NCCL with GPUs, gloo without.

    mmengine's launchers select a CUDA device first. Without GPUs this function makes the group itself and has
    the model wrapped without device ids. A second call finds the ranks joined.

    Args:
        cfg: Config with ``launcher``, and maybe ``env_cfg`` and ``model_wrapper_cfg``.

    Returns:
        A note: how many ranks there are, and how they talk.

    Raises:
        ValueError: If the launcher is unknown, its environment is incomplete, or a rank has no GPU.
    """
    if cfg.launcher not in LAUNCHERS:
        raise InputError(f'launcher must be one of {LAUNCHERS}, got {cfg.launcher!r}')
    if cfg.launcher == 'none':
        return f'1 process on {"a GPU" if torch.cuda.is_available() else "the CPU"}'
    if cfg.launcher == 'slurm':
        _export_slurm_env()
    absent = [name for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR') if name not in os.environ]
    if absent:
        raise InputError(
            f'launcher {cfg.launcher!r} needs {", ".join(absent)} in the environment: start with '
            'tools/dist_train.sh or tools/slurm_train.sh'
        )
    joined = torch.distributed.is_initialized()
    if torch.cuda.is_available():
        if not joined:
            _init_nccl(cfg)
        return f'{get_world_size()} ranks over NCCL'
    if not joined:
        torch.distributed.init_process_group('gloo')
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = {**wrapper, 'device_ids': None}
    return f'{get_world_size()} ranks over gloo on the CPU: no GPU was found'


def leave_distributed() -> None:
    """Leave the other ranks. Call it after all ranks have let go of their Runner.

    A model wrapper keeps the process group alive. Its threads would then run into Python's shutdown, and a
    rank would sometimes abort at the very end.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _init_nccl(cfg: Config) -> None:
    local_rank, gpus = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
    if local_rank >= gpus:
        raise InputError(
            f'rank {local_rank} has no GPU: this machine has {gpus}, so start at most {gpus} ranks on it'
        )
    env_cfg = cfg.get('env_cfg') or {}
    # Before init_dist, as in Runner.setup_env: init_dist would fix the start method to 'spawn'.
    set_multi_processing(**env_cfg.get('mp_cfg', {}), distributed=True)
    init_dist(cfg.launcher, **env_cfg.get('dist_cfg', dict(backend='nccl')))


def _export_slurm_env() -> None:
    """Set torch's variables from Slurm's, with and without GPUs."""
    absent = [name for name in ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST') if name not in os.environ]
    if absent:
        raise InputError(f"launcher 'slurm' needs {', '.join(absent)} in the environment: start with srun")
    os.environ['RANK'] = os.environ['SLURM_PROCID']
    os.environ['WORLD_SIZE'] = os.environ['SLURM_NTASKS']
    os.environ['LOCAL_RANK'] = os.environ.get('SLURM_LOCALID', '0')
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        hosts = subprocess.check_output(
            ['scontrol', 'show', 'hostname', os.environ['SLURM_NODELIST']], text=True
        )
        os.environ['MASTER_ADDR'] = hosts.split()[0]
