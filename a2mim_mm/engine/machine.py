"""Fits a config to the machine that runs it.

Each function changes the config in place and returns a note for the log that says in numbers what it did. The
notes are collected first, because the log exists only once the Runner does. A config without special settings
runs as it would in its own library.
"""

from contextlib import contextmanager

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast

from a2mim_mm.errors import InputError
from a2mim_mm.registry import OPTIM_WRAPPERS

LR_BATCH = 256  # the paper quotes base learning rates for this many images (Table A1)
_ABSOLUTE_LRS = ('eta_min', 'eta_max', 'min_value')  # of a scheduler; its other arguments are ratios
_AMP_KEYS = ('dtype', 'loss_scale', 'use_fsdp')
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_SYNC_BN = ('SyncBN', 'MMSyncBN')


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Mixed precision in bfloat16, which has the range of float32 and needs no loss scaling.

    It works on the CPU too. mmengine's ``AmpOptimWrapper`` does not.

    Args:
        **kwargs: As :class:`mmengine.optim.OptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: torch.nn.Module):
        """Run the forward pass under autocast, with gradient accumulation as usual."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


def scale_lr(cfg: Config) -> str:
    """Apply the linear rule to the learning rate and every absolute rate of its schedule.

    mmengine's own scaling ignores gradient accumulation and ``eta_min``, so this function switches it off.
    ``base_batch_size`` becomes the batch size that the new rate is for. Call it after
    :func:`init_distributed`.

    Args:
        cfg: Config whose rates are for batches of ``auto_scale_lr.base_batch_size`` images. It changes only
            if ``auto_scale_lr.enable`` is true.

    Returns:
        The rule with its numbers filled in.

    Raises:
        ValueError: If the learning rate is not a number, or if it or the base batch size is missing.
    """
    ranks, images = get_world_size(), cfg.train_dataloader.get('batch_size', 1)
    accumulation = cfg.optim_wrapper.get('accumulative_counts', 1)
    batch = ranks * images * accumulation
    batch_text = f'{ranks} ranks x {images} images x {accumulation} accumulation'
    rule = cfg.get('auto_scale_lr') or {}
    optimizer = cfg.optim_wrapper.get('optimizer') or {}
    if not isinstance(optimizer.get('lr', 0), (int, float)):
        raise InputError(f'optim_wrapper.optimizer.lr must be a number, got {optimizer["lr"]!r}')
    if not rule.get('enable', False):
        return f'lr as configured, for a batch of {batch} ({batch_text}): auto_scale_lr is off'
    if rule.get('base_batch_size') is None or 'lr' not in optimizer:
        raise InputError(
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

    The default is ``cfg.amp_dtype`` on a GPU and float32 on the CPU. A config without ``amp_dtype`` keeps its
    optimiser wrapper.

    Args:
        cfg: Config with ``optim_wrapper`` and maybe ``amp_dtype``, 'bfloat16' or 'float16'.
        amp: True switches mixed precision on, False switches it off.

    Returns:
        A note: the precision and the reason for it.

    Raises:
        ValueError: If ``amp_dtype`` or the optimiser wrapper is of a kind that this function does not know.
    """
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    detector = cfg.get('default_scope') == 'mmdet'
    dtype = cfg.get('amp_dtype') or ('float16' if amp and detector else None)
    if dtype not in (None, 'bfloat16', 'float16'):
        raise InputError(f"amp_dtype must be 'bfloat16' or 'float16', got {dtype!r}")
    known = ('OptimWrapper', 'AmpOptimWrapper', 'a2mim_mm.AutocastOptimWrapper')
    if kind not in known:
        if amp is not None:
            raise InputError(f'--amp and --no-amp need an optim_wrapper.type of {known}, got {kind!r}')
        return f'precision as {kind} has it'
    gpu = torch.cuda.is_available()
    if detector and amp is not False and (dtype == 'bfloat16' or (amp and not gpu)):
        raise InputError(
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
    """Drop settings of worker processes from loaders whose ``num_workers`` is 0, which refuse them."""
    for name in _LOADERS:
        loader = cfg.get(name)
        if loader and not loader.get('num_workers', 0):
            loader.pop('persistent_workers', None)
            loader.pop('prefetch_factor', None)


def fit_to_cpu(cfg: Config) -> str | None:
    """Replace what needs a GPU, if there is none: SyncBN becomes BN, and memory is not pinned.

    Returns:
        A note of what was replaced; None if nothing was.
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
