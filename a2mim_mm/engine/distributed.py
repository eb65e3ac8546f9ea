"""Joins the ranks that a launcher started, and parts from them in good order."""

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

    Without GPUs the group is made here because mmengine's launchers select a
    CUDA device first, and the model is wrapped without device ids.

    Args:
        cfg: Config with ``launcher``; ``env_cfg`` and ``model_wrapper_cfg`` are used where given.

    Returns:
        How many ranks there are, and how they talk.

    Raises:
        ValueError: If the launcher is unknown, its environment is missing, or a rank has no GPU of its own.
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
    if torch.cuda.is_available():
        _init_nccl(cfg)
        return f'{get_world_size()} ranks over NCCL'
    torch.distributed.init_process_group('gloo')
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = {**wrapper, 'device_ids': None}
    return f'{get_world_size()} ranks over gloo on the CPU: no GPU was found'


def leave_distributed() -> None:
    """Part from the other ranks in good order; call it when the Runner is out of scope on all of them.

    A model wrapper that is still there holds the group, whose threads then meet
    Python's shutdown: now and then a rank would abort at its very end.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _init_nccl(cfg: Config) -> None:
    local_rank, gpus = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
    if local_rank >= gpus:
        raise InputError(
            f'rank {local_rank} of this machine has no GPU of its own: it has {gpus}, start as many ranks'
        )
    env_cfg = cfg.get('env_cfg') or {}
    # First, as in Runner.setup_env: init_dist would fix the start method to 'spawn'.
    set_multi_processing(**env_cfg.get('mp_cfg', {}), distributed=True)
    init_dist(cfg.launcher, **env_cfg.get('dist_cfg', dict(backend='nccl')))


def _export_slurm_env() -> None:
    """Translate Slurm's variables to torch's, on machines without GPUs as well."""
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
