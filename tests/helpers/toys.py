"""Small backbones that know nothing of masks, and what tests do with a token in them."""

from collections import namedtuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

Stage = namedtuple('Stage', ['feat', 'size'])


class Conv(nn.Module):
    """(B, 3, H, W) to (B, C, H / stride, W / stride); `stage1` is the site, `stage2` comes after it."""

    layout = 'bchw'

    def __init__(self, channels=6, stride=4, reentrant=None):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.stage1 = nn.Conv2d(channels, channels, stride, stride)
        self.stage2 = nn.Conv2d(channels, channels, 1)
        self.reentrant = reentrant

    def forward(self, x):
        feat = self.stem(x)
        if self.reentrant is None:
            return (self._stages(feat),)
        return (checkpoint(self._stages, feat, use_reentrant=self.reentrant),)

    def _stages(self, feat):
        # tanh makes the gradient of the token depend on the features and on the mask
        return torch.tanh(self.stage2(torch.tanh(self.stage1(feat))))


class LastSite(nn.Module):
    """A backbone that returns the output of its site unchanged, in the layout asked for."""

    def __init__(self, layout='bchw', channels=6, stride=4, num_extra=0):
        super().__init__()
        self.body = nn.Conv2d(3, channels, stride, stride)
        self.site = Layout(layout, num_extra)

    def forward(self, x):
        return self.site(self.body(x))


class Layout(nn.Module):
    """Rearranges (B, C, h, w) features."""

    def __init__(self, layout, num_extra):
        super().__init__()
        self.layout, self.num_extra = layout, num_extra

    def forward(self, feat_bchw):
        if self.layout == 'bchw':
            return feat_bchw
        if self.layout == 'pooled':
            return feat_bchw.mean((2, 3))
        if self.layout == 'list':
            return [feat_bchw, feat_bchw]
        feat_bhwc = feat_bchw.permute(0, 2, 3, 1)
        if self.layout == 'bhwc':
            return feat_bhwc.contiguous()
        tok_blc = feat_bhwc.flatten(1, 2)
        if self.layout == 'blc':
            extra = tok_blc.new_full((len(tok_blc), self.num_extra, tok_blc.shape[2]), 7.0)
            tok_blc = torch.cat([extra, tok_blc], dim=1)
        if self.layout == 'tuple':
            return tok_blc, (feat_bchw.shape[2], feat_bchw.shape[3])
        if self.layout == 'tuple_bchw':
            return feat_bchw, feat_bchw.clone()
        if self.layout == 'namedtuple':
            return Stage(feat_bchw, feat_bchw.shape[2:])
        return tok_blc


class Detour(nn.Module):
    """Has a sub-module that its forward never runs."""

    def __init__(self):
        super().__init__()
        self.used = nn.Conv2d(3, 6, 4, 4)
        self.unused = nn.Conv2d(6, 6, 1)

    def forward(self, x):
        return self.used(x)


class Nested(nn.Module):
    """A site inside a parent, both of which can be checkpointed."""

    def __init__(self, channels=6):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 4, 4)
        self.parent = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.Tanh(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, x):
        return (torch.tanh(self.parent(F.relu(self.stem(x)))),)


def hooks(module):
    """All hooks in a module and its sub-modules: name, kind, number."""
    return [
        (name, kind, len(table))
        for name, child in module.named_modules()
        for kind, table in vars(child).items()
        if 'hooks' in kind and isinstance(table, dict) and table
    ]


def token_gradient(backbone, token, img, mask):
    """Gradient of the token (and the gate, if any) under a loss that sees every position differently."""
    for param in token.parameters():
        param.grad = None
    with token.masked(mask):
        feat = backbone(img)[-1]
    weights = torch.linspace(-1, 1, feat.numel(), dtype=feat.dtype).view_as(feat)
    (feat * weights).sum().backward()
    return [param.grad.clone() for param in token.parameters()]
