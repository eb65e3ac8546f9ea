"""How many images a training step can take at once."""

import copy

import torch
from mmengine.config import Config
from mmengine.runner.amp import autocast
from mmpretrain.structures import DataSample
from torch import nn

from a2mim_mm.checkpoints.load import build_network
from a2mim_mm.engine.config import model_config

_SHARE = 0.85  # of the free memory of a GPU; the rest is for fragments, and for what other batches need
_TRIED = (4, 12)  # images; memory grows in proportion
_PIXELS_ON_CPU = 32 * 224 * 224  # of a batch that takes seconds on a few cores
_MOST_ON_CPU = 512


def images_that_fit(cfg: Config, size_hw: tuple[int, int]) -> int:
    """Images of one step that fit into the memory of this machine: measured on a GPU, a rule on a CPU.

    Args:
        cfg: The config of a pre-training. It stays as it is.
        size_hw: Height and width of the images in pixels.
    """
    if not torch.cuda.is_available():
        return max(1, min(_MOST_ON_CPU, _PIXELS_ON_CPU // (size_hw[0] * size_hw[1])))
    free, _ = torch.cuda.mem_get_info()
    model = build_network(model_config(copy.deepcopy(cfg))).cuda()
    few, many = (_peak(model, (count, model.in_channels, *size_hw), cfg.get('amp_dtype')) for count in _TRIED)
    of_image = (many - few) / (_TRIED[1] - _TRIED[0])
    states = 2 * sum(param.numel() * 4 for param in model.parameters() if param.requires_grad)  # of AdamW
    del model
    torch.cuda.empty_cache()
    return max(1, int((_SHARE * free - states - (few - _TRIED[0] * of_image)) / of_image))


def _peak(model: nn.Module, shape: tuple[int, ...], amp_dtype: str | None) -> int:
    """Bytes that weights, gradients and one forward and backward of random images take at most."""
    samples = [DataSample(mask_seed=seed) for seed in range(shape[0])]
    torch.cuda.reset_peak_memory_stats()
    with autocast(enabled=amp_dtype is not None, dtype=getattr(torch, amp_dtype or 'bfloat16')):
        losses = model.loss([torch.rand(shape, device='cuda')], samples)
    sum(losses.values()).backward()
    return torch.cuda.max_memory_allocated()
