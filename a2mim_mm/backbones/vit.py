"""A2MIMViT: mmpretrain's VisionTransformer with relative position bias, for any input size.

Shape suffixes: b batch, l tokens (cls, if any, then h * w patches), d width, n heads.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from mmcv.cnn.bricks import DropPath
from mmengine.logging import print_log
from mmengine.model import BaseModule, ModuleList
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer, VisionTransformer
from mmpretrain.models.utils import MultiheadAttention, resize_pos_embed
from torch import Tensor, nn

from a2mim_mm.errors import InputError
from a2mim_mm.registry import MODELS

from .relative_position import (
    CLS_ROWS,
    Grid,
    attention,
    gather_bias,
    num_offsets,
    relative_position_index,
    resize_bias_table,
)

TABLE = 'relative_position_bias_table'
REL_POS_BIAS = ('layer', 'shared', None)


def _zero_table(rows: int, heads: int) -> nn.Parameter | None:
    return nn.Parameter(torch.zeros(rows, heads)) if rows else None


class RelPosAttention(BaseModule):
    """Self-attention with relative position bias, made of the parts of mmpretrain's ``MultiheadAttention``.

    ``qkv.bias`` has a part b_k for the keys. It adds the same number, q . b_k, to all logits of a query, and
    softmax ignores that. So "no k bias" (official) is the same function.

    Args:
        attn: The attention whose sub-modules are taken over.
        grid_hw: Grid of the bias table.
        num_rows: Rows of its zero-initialised bias table; 0 for no table.
    """

    def __init__(self, attn: MultiheadAttention, grid_hw: Grid, num_rows: int) -> None:
        super().__init__()
        self.num_heads = attn.num_heads
        self.attn_drop = attn.attn_drop
        self.grid_hw = grid_hw
        self.qkv = attn.qkv
        self.proj = attn.proj
        self.proj_drop = attn.proj_drop
        self.out_drop = attn.out_drop
        self.gamma1 = attn.gamma1
        self.register_parameter(TABLE, _zero_table(num_rows, self.num_heads))

    def forward(
        self, tok_bld: Tensor, grid_hw: Grid, index_ll: Tensor | None, shared_bias: Tensor | None
    ) -> Tensor:
        """Attends. Arguments and result: see :meth:`RelPosLayer.forward`."""
        out = self.proj(self._attend(self.qkv(tok_bld), grid_hw, index_ll, shared_bias))
        return self.out_drop(self.gamma1(self.proj_drop(out)))

    def _attend(
        self, qkv_bld: Tensor, grid_hw: Grid, index_ll: Tensor | None, shared_bias: Tensor | None
    ) -> Tensor:
        """(b, l, d) from queries, keys and values, (b, l, 3 d)."""
        return self._heads(qkv_bld, self._bias(grid_hw, index_ll, shared_bias))

    def _bias(self, grid_hw: Grid, index_ll: Tensor | None, shared_bias: Tensor | None) -> Tensor | None:
        """Its own bias over a grid, (1, n, l, l), or the shared one."""
        if self.relative_position_bias_table is None:
            return shared_bias
        table = resize_bias_table(self.relative_position_bias_table, self.grid_hw, grid_hw)
        return gather_bias(table, index_ll)

    def _heads(self, qkv_bld: Tensor, bias: Tensor | None) -> Tensor:
        """Attention of all heads, (b, l, d)."""
        q, k, v = qkv_bld.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return attention(q, k, v, bias, self.attn_drop if self.training else 0.0).transpose(1, 2).flatten(2)


class RelPosLayer(TransformerEncoderLayer):
    """An encoder layer that is told where its tokens are, made of the parts of an mmpretrain layer.

    Args:
        layer: The layer whose sub-modules are taken over.
        grid_hw: Grid of the bias table.
        num_rows: Rows of its bias table; 0 for no table.
    """

    def __init__(self, layer: TransformerEncoderLayer, grid_hw: Grid, num_rows: int) -> None:
        BaseModule.__init__(self, layer.init_cfg)  # the parent's own would build all parts once more
        self.embed_dims = layer.embed_dims
        self.ln1 = layer.ln1
        self.attn = RelPosAttention(layer.attn, grid_hw, num_rows)
        self.ln2 = layer.ln2
        self.ffn = layer.ffn

    def forward(
        self, tok_bld: Tensor, grid_hw: Grid, index_ll: Tensor | None, shared_bias: Tensor | None
    ) -> Tensor:
        """Transforms tokens. It remembers nothing, so activation checkpointing recomputes the same.

        Args:
            tok_bld: (b, l, d) tokens.
            grid_hw: Grid of the patches among them.
            index_ll: ``relative_position_index`` of that grid, for a layer with its own table.
            shared_bias: (1, n, l, l) bias that all layers share, for a layer without a table.

        Returns:
            (b, l, d).
        """
        tok_bld = tok_bld + self.attn(self.ln1(tok_bld), grid_hw, index_ll, shared_bias)
        return self.ffn(self.ln2(tok_bld), identity=tok_bld)


@MODELS.register_module()
class A2MIMViT(VisionTransformer):
    """mmpretrain's VisionTransformer with relative position bias and optional absolute position embedding.

    Takes any input size that the patch divides, square or not, at any time: position embedding and bias
    tables are resampled to the grid of the input. The names of the parameters are VisionTransformer's plus
    ``layers.N.attn.relative_position_bias_table`` (``'layer'``) or ``relative_position_bias_table``
    (``'shared'``), of shape ((2h - 1)(2w - 1) + 3, heads), without the + 3 where there is no cls token.

    Loading a state dict resamples its position embedding and tables to the grid of ``img_size``. A state dict
    does not say how many rows and columns its grid had. If all shapes agree with the model's own grid, that
    is assumed, otherwise a square. If a shape contradicts that too, loading raises ValueError.

    Args:
        rel_pos_bias: ``'layer'``: a zero-initialised table in each layer; ``'shared'``: one for all layers;
            None: no bias.
        abs_pos_embed: Whether to add a learnable absolute position embedding.
        **kwargs: Of :class:`mmpretrain.models.VisionTransformer`. The paper's ViT-S is ``arch='deit-small'``.

    Raises:
        ValueError: An argument has a value that is not allowed.
    """

    def __init__(self, rel_pos_bias: str | None = 'layer', abs_pos_embed: bool = True, **kwargs) -> None:
        if rel_pos_bias not in REL_POS_BIAS:
            raise InputError(f'rel_pos_bias is {rel_pos_bias!r}; allowed: {REL_POS_BIAS}')
        if not isinstance(abs_pos_embed, bool):
            raise InputError(f'abs_pos_embed is {abs_pos_embed!r}; allowed: True, False')
        if isinstance(kwargs.get('out_indices'), Collection):
            kwargs['out_indices'] = list(kwargs['out_indices'])  # the parent writes into the list it gets
        arch, frozen = kwargs.get('arch', 'base'), kwargs.get('frozen_stages', -1)
        layers = (arch if isinstance(arch, dict) else self.arch_zoo.get(arch, {})).get('num_layers', frozen)
        if frozen > layers:
            raise InputError(f'frozen_stages is {frozen}; allowed: -1 to {layers}')
        super().__init__(**kwargs)
        heads, last = self.arch_settings['num_heads'], self.num_layers - 1
        if self.embed_dims % heads:
            raise InputError(f'embed_dims is {self.embed_dims}; allowed: multiples of num_heads, {heads}')
        if any(index > last for index in self.out_indices):
            raise InputError(f'out_indices is {self.out_indices}; allowed: {-last - 1} to {last}')
        self._check_size('img_size', self.img_size)

        self.rel_pos_bias = rel_pos_bias
        if not abs_pos_embed:
            self.pos_embed = None
        self.grid_hw = tuple(self.patch_resolution)
        rows = num_offsets(self.grid_hw) + CLS_ROWS * self.num_extra_tokens
        layer_rows = rows if rel_pos_bias == 'layer' else 0
        shared_rows = rows if rel_pos_bias == 'shared' else 0
        self.layers = ModuleList(RelPosLayer(layer, self.grid_hw, layer_rows) for layer in self.layers)
        self.register_parameter(TABLE, _zero_table(shared_rows, heads))
        for module in self.modules():
            if isinstance(module, DropPath):
                module.drop_prob = float(module.drop_prob)  # a NumPy number would break torch.compile's graph
        if self.frozen_stages > 0:
            self._freeze_stages()  # again: when the parent's constructor did it, there were no tables

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encodes images.

        Args:
            x: (b, in_channels, H, W) images; H and W are in pixels.

        Returns:
            One feature for each of ``out_indices``, in the form that ``out_type`` names.

        Raises:
            ValueError: H or W is not a multiple of the patch size.
        """
        self._check_size('size of the input', x.shape[-2:])
        tok_bld, grid_hw = self.patch_embed(x)
        if self.cls_token is not None:
            tok_bld = torch.cat((self.cls_token.expand(tok_bld.shape[0], -1, -1), tok_bld), dim=1)
        if self.pos_embed is not None:
            tok_bld = tok_bld + self._resize_pos_embed(self.pos_embed, self.grid_hw, grid_hw)
        tok_bld = self.pre_norm(self.drop_after_pos(tok_bld))

        biases = self._layer_biases(grid_hw, x.device)
        outs = []
        for i, (layer, (index_ll, shared_bias)) in enumerate(zip(self.layers, biases, strict=True)):
            # All by position: the wrapper with which mmengine checkpoints a layer takes no keywords.
            tok_bld = layer(tok_bld, grid_hw, index_ll, shared_bias)
            if i == self.num_layers - 1 and self.final_norm:
                tok_bld = self.ln1(tok_bld)
            if i in self.out_indices:
                outs.append(self._format_output(tok_bld, grid_hw))
        return tuple(outs)

    def init_weights(self) -> None:
        """Truncated normal of std 0.02, biases zero: the usual start of a ViT. The paper does not say.

        ``init_cfg`` of type Pretrained fills the network instead.
        """
        super().init_weights()
        if isinstance(self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained':
            return
        layers = [module for module in self.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
        for param in (self.cls_token, self.pos_embed, *(layer.weight for layer in layers)):
            if param is not None:
                # Cut at 5 std. With PyTorch's usual bounds, -2 and 2, a few weights in some millions are 2.
                nn.init.trunc_normal_(param, std=0.02, a=-0.1, b=0.1)
        for layer in layers:
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def train(self, mode: bool = True) -> A2MIMViT:
        """Sets the mode, keeps frozen stages in evaluation mode, and returns self, unlike the parent's."""
        super().train(mode)
        if self.frozen_stages > 0:
            self._freeze_stages()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise decay, and the number of depths. A shared table has depth 0."""
        if param_name == prefix + TABLE:
            return 0, self.num_layers + 2
        return super().get_layer_depth(param_name, prefix)

    def _layer_biases(self, grid_hw: Grid, device: torch.device) -> list[tuple[Tensor | None, Tensor | None]]:
        """Index and shared bias of each layer."""
        return [self._position_bias(grid_hw, device)] * self.num_layers

    def _position_bias(self, grid_hw: Grid, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """Index (l, l) and shared bias (1, n, l, l) for attention over a grid; None for what is not used."""
        index_ll = shared_bias = None
        if self.rel_pos_bias is not None:
            index_ll = relative_position_index(grid_hw, self.with_cls_token, device)
        if self.relative_position_bias_table is not None:
            table = resize_bias_table(self.relative_position_bias_table, self.grid_hw, grid_hw)
            shared_bias = gather_bias(table, index_ll)
        return index_ll, shared_bias

    def _check_size(self, name: str, size_hw: Grid) -> None:
        (height, width), (patch_h, patch_w) = size_hw, self.patch_embed.projection.stride
        if height % patch_h or width % patch_w:
            raise InputError(
                f'{name} is {height} x {width} (height x width); allowed: multiples of the patch size, '
                f'{patch_h} x {patch_w}. `pad_size_divisor` of a data preprocessor pads images to such a size'
            )

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        for param in self.parameters(recurse=False):  # cls token, position embedding, shared table
            param.requires_grad = False

    def _resize_pos_embed(self, pos_embed: Tensor, src_hw: Grid, dst_hw: Grid) -> Tensor:
        return resize_pos_embed(pos_embed, src_hw, dst_hw, self.interpolate_mode, self.num_extra_tokens)

    def _prepare_pos_embed(self, state_dict: dict, prefix: str, *_args, **_kwargs) -> None:
        """Fits a state dict to the grid of this model. The parent registers it as a hook before loading."""
        positions = [key for key in state_dict if key == f'{prefix}pos_embed']
        tables = [key for key in state_dict if key.startswith(prefix) and key.endswith(TABLE)]
        if not self.with_cls_token and f'{prefix}cls_token' in state_dict:
            state_dict.update({key: state_dict[key][:, 1:] for key in positions})
            state_dict.update({key: state_dict[key][:-CLS_ROWS] for key in tables})

        src_hw = self._infer_grid({key: tuple(state_dict[key].shape) for key in positions + tables})
        if src_hw == self.grid_hw:
            return
        for key in positions:
            state_dict[key] = self._resize_pos_embed(state_dict[key], src_hw, self.grid_hw)
        for key in tables:
            state_dict[key] = resize_bias_table(state_dict[key], src_hw, self.grid_hw)
        names = ', '.join(positions + tables)
        print_log(f'Resampled from patch grid {src_hw} to {self.grid_hw}: {names}', logger='current')

    def _infer_grid(self, shapes: dict[str, tuple[int, ...]]) -> Grid:
        """Finds the grid that agrees with the shapes of position embedding (1, l, d) and tables (rows, n)."""
        extra = self.num_extra_tokens
        offsets = {shape[0] - CLS_ROWS * extra for key, shape in shapes.items() if key.endswith(TABLE)}
        patches = {shape[-2] - extra for key, shape in shapes.items() if not key.endswith(TABLE)}
        sides = {math.isqrt(max(n, 1)) for n in patches} | {(math.isqrt(max(n, 1)) + 1) // 2 for n in offsets}
        for h, w in (self.grid_hw, *((side, side) for side in sides)):
            if patches <= {h * w} and offsets <= {num_offsets((h, w))}:
                return h, w
        raise InputError(
            f'Cannot infer the patch grid of the state dict from {shapes}; allowed: the grid of this model, '
            f'{self.grid_hw}, or a square one, {"with" if extra else "without"} a cls token. Build the model '
            'with the img_size of the state dict: it takes any size of input afterwards'
        )
