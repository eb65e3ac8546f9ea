"""Ranks find each other, with and without GPUs, or the tool says what is missing."""

import socket

import pytest
import torch
from mmengine.config import Config
from mmengine.dist import get_world_size

from a2mim_mm.engine import distributed


@pytest.fixture
def cfg():
    return Config(dict())


@pytest.fixture
def gpu(monkeypatch):
    """Pretends that there is a GPU, or none."""
    return lambda present: monkeypatch.setattr(torch.cuda, 'is_available', lambda: present)


def test_one_process_needs_no_group(cfg, gpu):
    gpu(False)
    cfg.launcher = 'none'
    assert distributed.init_distributed(cfg) == '1 process on the CPU'
    assert not torch.distributed.is_initialized() and 'model_wrapper_cfg' not in cfg


def test_launchers_are_checked(cfg, gpu, monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    for launcher, message in (
        ('torch', "got 'torch'"),
        ('pytorch', 'RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR'),
        ('slurm', 'SLURM_PROCID'),
    ):
        cfg.launcher = launcher
        with pytest.raises(ValueError, match=message):
            distributed.init_distributed(cfg)
    gpu(True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    for name, value in dict(RANK='1', WORLD_SIZE='2', LOCAL_RANK='1', MASTER_ADDR='127.0.0.1').items():
        monkeypatch.setenv(name, value)
    cfg.launcher = 'pytorch'
    with pytest.raises(ValueError, match='rank 1 has no GPU: this machine has 1'):
        distributed.init_distributed(cfg)


def test_slurm_without_gpus_joins_over_gloo(cfg, gpu, monkeypatch, tmp_path):
    gpu(False)
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        monkeypatch.setenv('MASTER_PORT', str(probe.getsockname()[1]))
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR'):
        monkeypatch.setenv(name, 'to be overwritten')
        monkeypatch.delenv(name)
    for name, value in dict(PROCID='0', NTASKS='1', LOCALID='0', NODELIST='node[1-2]').items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostname node[1-2]" ] && echo 127.0.0.1 && echo node2\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    cfg.launcher = 'slurm'
    cfg.find_unused_parameters = True
    try:
        assert distributed.init_distributed(cfg) == '1 ranks over gloo on the CPU: no GPU was found'
        assert torch.distributed.get_backend() == 'gloo' and get_world_size() == 1
        assert cfg.model_wrapper_cfg == dict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=True,
            device_ids=None,
        )
    finally:
        distributed.leave_distributed()
    assert not torch.distributed.is_initialized()
