"""Normalising images of any number of channels."""

from collections.abc import Sequence

import torch
from torch import nn

from a2mim_mm.errors import InputError
from a2mim_mm.registry import MODELS

_BASE = dict(type='mmpretrain.SelfSupDataPreprocessor')


@MODELS.register_module(name='ChannelsPreprocessor')
def channels_preprocessor(mean: Sequence[float], std: Sequence[float], base: dict = _BASE) -> nn.Module:
    """A pre-processor that normalises C channels. mmengine's own take a mean of 1 or 3 numbers only.

    Args:
        mean: One number for each channel, in the order and the units of the loaded images.
        std: Likewise.
        base: Config of the pre-processor, without mean and std. Segmentation has
            ``dict(type='mmseg.SegDataPreProcessor', size=(512, 512))``.

    Raises:
        ValueError: If mean and std differ in length, or a std is not positive.
    """
    if len(mean) != len(std) or not len(mean) or not all(value > 0 for value in std):
        raise InputError(f'data_preprocessor needs a mean and a positive std a channel, got {mean} and {std}')
    preprocessor = MODELS.build(base)
    for name, values in (('mean', mean), ('std', std)):
        preprocessor.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
    preprocessor._enable_normalize = True
    return preprocessor
