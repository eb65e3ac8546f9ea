"""A2MIMViT for detectors: most layers attend within windows, so that an image may be large.

After ViTDet (https://arxiv.org/abs/2203.16527), whose ViT has no cls token. The shape suffixes are those of
``windows.py``: w windows of the batch, s tokens of a window.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from a2mim_mm.errors import InputError
from a2mim_mm.registry import MODELS

from .relative_position import Grid
from .vit import TABLE, A2MIMViT, RelPosAttention
from .windows import merge_windows, padding_bias, split_windows


class WindowAttention(RelPosAttention):
    """Attention within windows, made of the parts of an attention over the whole map.

    Args:
        attn: The attention whose sub-modules and table are taken over.
        window_size: Patches along a side of a window.
    """

    def __init__(self, attn: RelPosAttention, window_size: int) -> None:
        super().__init__(attn, attn.grid_hw, num_rows=0)
        self.register_parameter(TABLE, attn.relative_position_bias_table)
        self.window_size = window_size

    def _attend(
        self, qkv_bld: Tensor, grid_hw: Grid, index_ss: Tensor | None, shared_bias: Tensor | None
    ) -> Tensor:
        """Cut into windows, attend in each, and put together before the projection and the drop path."""
        side = self.window_size
        bias = self._bias((side, side), index_ss, shared_bias)
        padding = padding_bias(qkv_bld, grid_hw, side)
        if padding is not None:
            bias = padding if bias is None else bias + padding
        out_wsd = self._heads(split_windows(qkv_bld, grid_hw, side), bias)
        return merge_windows(out_wsd, grid_hw, side)


@MODELS.register_module()
class WindowedA2MIMViT(A2MIMViT):
    """A2MIMViT whose layers attend within windows, except for some.

    The names and shapes of the parameters are those of :class:`A2MIMViT`, so a pre-trained one fills it. A
    map that the window does not divide is padded at the bottom and on the right, and attention does not see
    the padding. Each window sees a copy of cls, and the mean of the copies goes on. A layer with windows
    takes its bias table for the grid of a window: with ``img_size=224``, patches of 16 and windows of 14,
    that is the grid of the pre-training.

    Args:
        window_size: Patches along a side of a window.
        global_layers: Layers that attend to the whole map all the same, counted from 0.
        **kwargs: Of :class:`A2MIMViT`.

    Raises:
        ValueError: An argument has a value that is not allowed.
    """

    def __init__(self, window_size: int, global_layers: Sequence[int] = (), **kwargs) -> None:
        if type(window_size) is not int or window_size < 1:
            raise InputError(f'window_size is {window_size!r}; allowed: positive numbers of patches')
        super().__init__(**kwargs)
        if not set(global_layers) <= set(range(self.num_layers)):
            raise InputError(f'global_layers is {tuple(global_layers)}; allowed: 0 to {self.num_layers - 1}')
        self.window_size = window_size
        self.global_layers = frozenset(global_layers)
        for index, layer in enumerate(self.layers):
            if index not in self.global_layers:
                layer.attn = WindowAttention(layer.attn, window_size)
        if self.frozen_stages > 0:
            self._freeze_stages()  # again: the attentions are new

    def _layer_biases(self, grid_hw: Grid, device: torch.device) -> list[tuple[Tensor | None, Tensor | None]]:
        whole = self._position_bias(grid_hw, device)
        window = self._position_bias((self.window_size, self.window_size), device)
        return [whole if index in self.global_layers else window for index in range(self.num_layers)]
