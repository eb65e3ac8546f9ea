"""The mask token, added inside a backbone that does not know it (Section 4, "Mask Token").

    z_mask = z + T * D(M)

T is one learnable vector, z the output of a named sub-module (the *site*), and D(M) the mask resampled to the
size of z.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from a2mim_mm.backbones.sites import find_site
from a2mim_mm.backbones.token_layout import LAYOUT, extra_tokens, find_layout, token_grid
from a2mim_mm.errors import InputError
from a2mim_mm.registry import MODELS

from .masking import resize_mask


@MODELS.register_module()
class MaskToken(nn.Module):
    """Puts a learnable token on the hidden positions of a feature, by a forward hook.

    The backbone gets no parameter and no key, and its forward is unchanged unless it runs inside
    :meth:`masked`. The mask is kept until the next forward, because activation checkpointing runs the site
    again during backward and must see the same mask. So each backward must then come before the next forward.

    Args:
        channels: Number of channels C of the feature. It tells the channel axis.
        site: Name of the sub-module whose output receives the token, as in ``backbone.named_modules()``:
            ``'layer3'`` (ResNet-50), ``'layers.4'`` (ViT-S, its layer 5), ``'layers.7'`` (ViT-B, layer 8).
            :class:`A2MIM` finds it, with its channels and layout, if the config leaves it out.
        mode: ``'add'`` (the paper) or ``'replace'`` (Figure 6's "Replacing").
        layout: ``'bchw'``, ``'bhwc'``, or ``'blc+N'``: N extra tokens, then the patch tokens row by row
            (``'blc'``: no extra tokens). Needed only if the shape of the feature fits several.
        gate_init: If given, hidden features are first multiplied by a learnable gate for each channel, which
            starts at this value (the authors' released ResNet: 1e-6).
        init_std: Of the truncated normal distribution that the token starts from; 0 starts at zeros.
    """

    def __init__(
        self,
        channels: int,
        site: str,
        mode: str = 'add',
        layout: str | None = None,
        gate_init: float | None = None,
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        if not isinstance(channels, int) or channels < 1:
            raise InputError(f'channels must be a positive whole number, got {channels!r}')
        if mode not in ('add', 'replace'):
            raise InputError(f'mode must be add or replace, got {mode!r}')
        if layout is not None and not LAYOUT.fullmatch(layout):
            raise InputError(f"layout must be 'bchw', 'bhwc', 'blc' or 'blc+N', got {layout!r}")
        if gate_init is not None and mode == 'replace':
            raise InputError("gate_init needs mode='add': replaced features have nothing left to multiply")
        self.site, self.mode, self.layout = site, mode, layout
        self.token = nn.Parameter(torch.zeros(channels))
        if init_std:
            nn.init.trunc_normal_(self.token, std=init_std)
        self.gate = None if gate_init is None else nn.Parameter(torch.full((channels,), float(gate_init)))
        self._handles = []
        self._next_mask_bhw = self._mask_bhw = None
        self._placed = False

    def attach(self, backbone: nn.Module) -> None:
        """Install the hooks: ValueError if the site is unknown, RuntimeError if they are installed."""
        if self._handles:
            raise RuntimeError('the mask token is attached already: call remove() first')
        site = find_site(backbone, self.site)
        self._handles = [
            backbone.register_forward_pre_hook(self._begin),
            site.register_forward_hook(self._inject),
            backbone.register_forward_hook(self._end),
        ]

    def remove(self) -> None:
        """Remove the hooks. Nothing of the token stays in the backbone."""
        while self._handles:
            self._handles.pop().remove()
        self._next_mask_bhw = self._mask_bhw = None

    @contextmanager
    def masked(self, mask_bhw: Tensor) -> Iterator[None]:
        """Show the mask (B, h, w) to one forward of the backbone; RuntimeError if it is not attached."""
        if not self._handles:
            raise RuntimeError('the mask token is not attached: call attach(backbone) first')
        self._next_mask_bhw = mask_bhw
        try:
            yield
        finally:
            self._next_mask_bhw = None

    def _begin(self, _backbone: nn.Module, _args: tuple) -> None:
        # A checkpoint around the whole backbone runs it again during backward, and the mask is still needed.
        # (That does not happen while compiling, and dynamo cannot trace the question.)
        recomputed = not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1
        if recomputed and self._next_mask_bhw is None:
            return
        self._mask_bhw, self._next_mask_bhw = self._next_mask_bhw, None
        self._placed = False

    def _inject(self, _site: nn.Module, _args: tuple, output):
        if self._mask_bhw is None:
            return output
        self._placed = True
        feat, *rest = output if isinstance(output, tuple) and output else (output,)
        if not isinstance(feat, Tensor):
            raise InputError(
                f'the output of the token site {self.site!r} is a {type(feat).__name__}, no tensor: choose '
                'a sub-module inside it or after it that returns one feature'
            )
        feat = self._place(feat, self._mask_bhw)
        if not isinstance(output, tuple):
            return feat
        return type(output)(feat, *rest) if hasattr(output, '_fields') else (feat, *rest)

    def _end(self, _backbone: nn.Module, _args: tuple, _output) -> None:
        if self._mask_bhw is not None and not self._placed:
            raise InputError(f'the backbone never ran the token site {self.site!r}: choose one that it runs')

    def _place(self, feat: Tensor, mask_bhw: Tensor) -> Tensor:
        """The feature, of any layout, with the token on its hidden positions; shape and dtype stay."""
        if len(feat) != len(mask_bhw):
            raise InputError(
                f'feature of shape {tuple(feat.shape)} at {self.site!r} has another batch than the mask '
                f'{tuple(mask_bhw.shape)}: choose a site whose output has one row an image'
            )
        layout = self.layout or find_layout(feat.shape, len(self.token), mask_bhw.shape[1:])
        if layout == 'bchw':
            return self._mix(feat, self._hidden(mask_bhw, feat.shape[2:])[:, None], (-1, 1, 1))
        if layout == 'bhwc':
            return self._mix(feat, self._hidden(mask_bhw, feat.shape[1:3])[..., None], (-1,))
        num_extra = extra_tokens(layout)
        size = token_grid(feat.shape[1] - num_extra, mask_bhw.shape[1:])
        if size is None:
            raise InputError(
                f'the {feat.shape[1]} tokens of {tuple(feat.shape)} at {self.site!r}, less {num_extra}, '
                f'form no grid of the shape of the mask grid {tuple(mask_bhw.shape[1:])}'
            )
        hidden = self._hidden(mask_bhw, size).flatten(1)[..., None]
        extra, patches = feat.split([num_extra, feat.shape[1] - num_extra], dim=1)
        return torch.cat([extra, self._mix(patches, hidden, (-1,))], dim=1)

    def _hidden(self, mask_bhw: Tensor, size: tuple[int, int]) -> Tensor:
        """D(M), (B, *size)."""
        grid = tuple(mask_bhw.shape[1:])
        if grid[0] > size[0] or grid[1] > size[1]:
            raise InputError(
                f'the mask grid of {grid[0]} x {grid[1]} is finer than the {size[0]} x {size[1]} feature at '
                f'{self.site!r}: choose a larger patch_size of the mask, or a site of a smaller stride'
            )
        return resize_mask(mask_bhw, size)

    def _mix(self, feat: Tensor, hidden: Tensor, channel_view: tuple[int, ...]) -> Tensor:
        # Autocast may have made the feature bfloat16. The token follows it.
        hidden = hidden.to(feat.dtype)
        token = self.token.to(feat.dtype).view(channel_view)
        if self.mode == 'replace':
            feat = feat * (1 - hidden)
        elif self.gate is not None:
            feat = feat * (1 - hidden + self.gate.to(feat.dtype).view(channel_view) * hidden)
        return feat + token * hidden
