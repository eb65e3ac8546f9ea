"""Fitting a config to the machine it runs on.

Each function changes the config in place and returns a note for the log: what
it did, in numbers. Notes are collected before the Runner, and so the log,
exists. A config that says nothing special runs as it would in its own library.
"""

import gc
import os
import subprocess
from contextlib import contextmanager

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.dist import get_world_size, init_dist
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from mmengine.utils.dl_utils import set_multi_processing

from a2mim_mm.registry import OPTIM_WRAPPERS

LAUNCHERS = ('none', 'pytorch', 'slurm')
LR_BATCH = 256  # base learning rates are quoted per so many images (paper, Table A1)
_ABSOLUTE_LRS = ('eta_min', 'eta_max', 'min_value')  # of a scheduler; what else it takes are ratios
_AMP_KEYS = ('dtype', 'loss_scale', 'use_fsdp')
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_SYNC_BN = ('SyncBN', 'MMSyncBN')


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Mixed precision in bfloat16, which has float32's range and needs no loss scaling.

    Works on the CPU too, where mmengine's ``AmpOptimWrapper`` refuses to.

    Args:
        **kwargs: As :class:`mmengine.optim.OptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: torch.nn.Module):
        """Autocast around the forward pass, with gradient accumulation as usual."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


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
        raise ValueError(f'launcher must be one of {LAUNCHERS}, got {cfg.launcher!r}')
    if cfg.launcher == 'none':
        return f'1 process on {"a GPU" if torch.cuda.is_available() else "the CPU"}'
    if cfg.launcher == 'slurm':
        _export_slurm_env()
    absent = [name for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR') if name not in os.environ]
    if absent:
        raise ValueError(
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


def scale_lr(cfg: Config) -> str:
    """Apply the linear rule to the learning rate and every absolute rate of its schedule.

    mmengine's own scaling forgets gradient accumulation and ``eta_min``, so it
    is switched off afterwards; ``base_batch_size`` becomes the batch that the
    new rate is for. Call it after :func:`init_distributed`.

    Args:
        cfg: Config whose rates are for batches of ``auto_scale_lr.base_batch_size`` images. It is left as it
            is unless ``auto_scale_lr.enable`` is true.

    Returns:
        The rule with its numbers filled in.

    Raises:
        ValueError: If the learning rate is no number, or the rule lacks it or the base batch size.
    """
    ranks, images = get_world_size(), cfg.train_dataloader.get('batch_size', 1)
    accumulation = cfg.optim_wrapper.get('accumulative_counts', 1)
    batch = ranks * images * accumulation
    batch_text = f'{ranks} ranks x {images} images x {accumulation} accumulation'
    rule = cfg.get('auto_scale_lr') or {}
    optimizer = cfg.optim_wrapper.get('optimizer') or {}
    if not isinstance(optimizer.get('lr', 0), (int, float)):
        raise ValueError(f'optim_wrapper.optimizer.lr must be a number, got {optimizer["lr"]!r}')
    if not rule.get('enable', False):
        return f'lr as configured, for a batch of {batch} ({batch_text}): auto_scale_lr is off'
    if rule.get('base_batch_size') is None or 'lr' not in optimizer:
        raise ValueError(
            'auto_scale_lr.enable needs auto_scale_lr.base_batch_size and optim_wrapper.optimizer.lr'
        )
    base_lr = optimizer['lr'] * LR_BATCH / rule['base_batch_size']
    ratio = batch / rule['base_batch_size']
    optimizer['lr'] *= ratio
    for scheduler in _lr_schedulers(cfg.get('param_scheduler')):
        for key in _ABSOLUTE_LRS:
            if scheduler.get(key) is not None:
                scheduler[key] *= ratio
    cfg.auto_scale_lr = dict(enable=False, base_batch_size=batch)
    return f'lr {optimizer["lr"]:.3e} = {base_lr:.3e} * {batch} / {LR_BATCH} ({batch_text})'


def set_precision(cfg: Config, amp: bool | None = None) -> str:
    """Choose the precision of the forward pass.

    Without being told: ``cfg.amp_dtype`` on a GPU, float32 on the CPU, and a
    config without ``amp_dtype`` keeps its optimiser wrapper.

    Args:
        cfg: Config with ``optim_wrapper`` and maybe ``amp_dtype``, 'bfloat16' or 'float16'.
        amp: True and False force mixed precision on and off.

    Returns:
        The precision and the reason for it.

    Raises:
        ValueError: If ``amp_dtype`` or the optimiser wrapper is of another kind.
    """
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    detector = cfg.get('default_scope') == 'mmdet'
    dtype = cfg.get('amp_dtype') or ('float16' if amp and detector else None)
    if dtype not in (None, 'bfloat16', 'float16'):
        raise ValueError(f"amp_dtype must be 'bfloat16' or 'float16', got {dtype!r}")
    known = ('OptimWrapper', 'AmpOptimWrapper', 'a2mim_mm.AutocastOptimWrapper')
    if kind not in known:
        if amp is not None:
            raise ValueError(f'--amp and --no-amp need an optim_wrapper.type of {known}, got {kind!r}')
        return f'precision as {kind} has it'
    gpu = torch.cuda.is_available()
    if detector and amp is not False and (dtype == 'bfloat16' or (amp and not gpu)):
        raise ValueError(
            "detectors train in float16 on a GPU, or in float32: mmcv's RoIAlign has no bfloat16"
        )
    if amp is None and dtype is None and (gpu or kind != 'AmpOptimWrapper'):
        return f'precision as {kind} has it'
    for key in _AMP_KEYS:
        wrapper.pop(key, None)
    if amp is False or (amp is None and not gpu):
        wrapper['type'] = 'OptimWrapper'
        return 'float32: ' + ('--no-amp' if amp is False else 'there is no GPU (--amp forces bfloat16)')
    if gpu and (dtype == 'float16' or not torch.cuda.is_bf16_supported(including_emulation=False)):
        wrapper['type'] = 'AmpOptimWrapper'
        wrapper['dtype'] = 'float16'
        reason = '' if dtype == 'float16' else ': this GPU has no bfloat16'
        return f'mixed precision in float16 with loss scaling{reason}'
    wrapper['type'] = 'a2mim_mm.AutocastOptimWrapper'
    return 'mixed precision in bfloat16'


def fit_workers(cfg: Config) -> None:
    """Drop what only loaders with worker processes take, where ``num_workers`` is 0."""
    for name in _LOADERS:
        loader = cfg.get(name)
        if loader and not loader.get('num_workers', 0):
            loader.pop('persistent_workers', None)
            loader.pop('prefetch_factor', None)


def fit_to_cpu(cfg: Config) -> str | None:
    """Replace what only works with a GPU: SyncBN becomes BN, memory is not pinned.

    Args:
        cfg: Any config; left as it is where there is a GPU.

    Returns:
        What was replaced, None if nothing.
    """
    if torch.cuda.is_available():
        return None
    for name in _LOADERS:
        if cfg.get(name):
            cfg[name].pop('pin_memory', None)
    converts = cfg.pop('sync_bn', None) is not None
    count = _replace_sync_bn(cfg._cfg_dict)
    if not converts and not count:
        return None
    return f'SyncBN became BN ({count} places in the config): SyncBN needs a GPU'


def _init_nccl(cfg: Config) -> None:
    local_rank, gpus = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
    if local_rank >= gpus:
        raise ValueError(
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
        raise ValueError(f"launcher 'slurm' needs {', '.join(absent)} in the environment: start with srun")
    os.environ['RANK'] = os.environ['SLURM_PROCID']
    os.environ['WORLD_SIZE'] = os.environ['SLURM_NTASKS']
    os.environ['LOCAL_RANK'] = os.environ.get('SLURM_LOCALID', '0')
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        hosts = subprocess.check_output(
            ['scontrol', 'show', 'hostname', os.environ['SLURM_NODELIST']], text=True
        )
        os.environ['MASTER_ADDR'] = hosts.split()[0]


def _lr_schedulers(schedulers: dict | list | None) -> list[dict]:
    """The schedulers that act on the learning rate, not on momentum or weight decay."""
    schedulers = [schedulers] if isinstance(schedulers, dict) else schedulers or []
    return [one for one in schedulers if _type_name(one).endswith('LR') or one.get('param_name') == 'lr']


def _type_name(cfg: dict) -> str:
    return getattr(cfg['type'], '__name__', cfg['type'])


def _replace_sync_bn(node: object) -> int:
    """Turn every ``dict(type='SyncBN')`` below ``node`` into BN; returns how many."""
    if isinstance(node, dict):
        found = node.get('type') in _SYNC_BN
        if found:
            node['type'] = 'BN'
        return found + sum(_replace_sync_bn(value) for value in node.values())
    if isinstance(node, (list, tuple)):
        return sum(_replace_sync_bn(value) for value in node)
    return 0
