"""The mask token inside backbones that know nothing of it."""

import copy
import warnings
from collections import namedtuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import reference
from mmengine.runner import turn_on_activation_checkpointing
from mmpretrain.models import ResNet, SwinTransformer, VisionTransformer
from torch import nn
from torch.utils.checkpoint import checkpoint

from a2mim_mm.errors import InputError
from a2mim_mm.models.mask_token import MaskToken
from a2mim_mm.models.masking import RandomPatchMask, draw_scores

Stage = namedtuple('Stage', ['feat', 'size'])
FORMS = {  # of the output of a site, from (B, C, h, w)
    'bchw': lambda feat: feat,
    'bhwc': lambda feat: feat.permute(0, 2, 3, 1).contiguous(),
    'tuple': lambda feat: (feat.flatten(2).mT, tuple(feat.shape[2:])),
    'tuple_bchw': lambda feat: (feat, feat.clone()),
    'namedtuple': lambda feat: Stage(feat, feat.shape[2:]),
    'list': lambda feat: [feat, feat],
    'pooled': lambda feat: feat.mean((2, 3)),
    **{f'blc+{n}': lambda feat, n=n: F.pad(feat.flatten(2).mT, (0, 0, n, 0), value=7.0) for n in range(13)},
}


class Form(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = FORMS[form]

    def forward(self, feat_bchw):
        return self.form(feat_bchw)


class LastSite(nn.Module):
    """Returns the output of its site unchanged, in the form asked for. It never runs `unused`."""

    def __init__(self, form='bchw', channels=5):
        super().__init__()
        self.body = nn.Conv2d(3, channels, 4, 4)
        self.site = Form(form)
        self.unused = nn.Identity()

    def forward(self, img):
        return self.site(self.body(img))


class Conv(nn.Module):
    """Has its site in the middle, `stages.0`, and can checkpoint it."""

    def __init__(self, reentrant=None):
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 4, 4)
        # tanh makes the gradient of the token depend on the features and on the mask
        self.stages = nn.Sequential(nn.Conv2d(5, 5, 1), nn.Tanh(), nn.Conv2d(5, 5, 1))
        self.reentrant = reentrant

    def forward(self, img):
        feat = torch.relu(self.stem(img))
        if self.reentrant is None:
            return (torch.tanh(self.stages(feat)),)
        return (torch.tanh(checkpoint(self.stages, feat, use_reentrant=self.reentrant)),)


def image(size=(32, 48), batch=2, seed=0):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def random_mask(grid=(4, 6), batch=2, seed=0):
    return RandomPatchMask(ratio=0.5)(draw_scores([(seed, i) for i in range(batch)], grid))


def make_token(backbone, channels=5, site='site', **kwargs):
    """A token with random values, attached."""
    token = MaskToken(channels=channels, site=site, **kwargs)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for param in token.parameters():
            param.copy_(torch.randn(param.shape, generator=generator))
    token.attach(backbone)
    return token


def hooks(module):
    """All hooks in a module and its sub-modules: name, kind, number."""
    return [
        (name, kind, len(table))
        for name, child in module.named_modules()
        for kind, table in vars(child).items()
        if 'hooks' in kind and isinstance(table, dict) and table
    ]


def forwards(backbone, token, img, mask):
    """The output without and with the mask."""
    plain = backbone(img)
    with token.masked(mask):
        return plain, backbone(img)


def token_gradient(backbone, token, img, mask):
    """Gradient of the token (and the gate, if any) under a loss that sees every position differently."""
    token.zero_grad()
    with token.masked(mask):
        feat = backbone(img)[-1]
    (feat * torch.linspace(-1, 1, feat.numel()).view_as(feat)).sum().backward()
    return [param.grad.clone() for param in token.parameters()]


def to_bhwc(feat, layout, rows=8):
    feat = feat.detach()
    if layout == 'bchw':
        return feat.permute(0, 2, 3, 1)
    return feat if layout == 'bhwc' else feat[:, int(layout.removeprefix('blc+')) :].unflatten(1, (rows, -1))


def assert_placed(before, after, mask, token, layout, rows=8, atol=1e-6):
    """What the paper says happens to a feature: z + T * D(M), or its ablation."""
    before, after = (to_bhwc(feat, layout, rows).numpy() for feat in (before, after))
    hidden = reference.resize_mask(mask.numpy(), before.shape[1:3])[..., None]
    gate = 1.0 if token.gate is None else token.gate.detach().numpy()
    kept = 0.0 if token.mode == 'replace' else before * gate
    expected = np.where(hidden == 1, kept + token.token.detach().numpy(), before)
    np.testing.assert_allclose(after, expected, atol=atol)


# ---- what changes, in every layout ---------------------------------------------------------------

MODES = [dict(mode='add'), dict(mode='replace'), dict(mode='add', gate_init=1e-6)]
EACH_MODE = pytest.mark.parametrize('mode', MODES, ids=['add', 'replace', 'gated'])


@pytest.mark.parametrize('size', [(32, 48), (48, 32), (32, 32)], ids=str)
@EACH_MODE
@pytest.mark.parametrize('layout', ['bchw', 'bhwc', 'blc+0', 'blc+1', 'blc+5'])
def test_only_hidden_positions_change_and_as_the_formula_says(layout, mode, size):
    backbone, rows, mask = LastSite(layout), size[0] // 4, random_mask((size[0] // 8, size[1] // 8))
    token = make_token(backbone, **mode)
    plain, masked = forwards(backbone, token, image(size), mask)
    assert masked.shape == plain.shape
    assert_placed(plain, masked, mask, token, layout, rows)
    before, after = (to_bhwc(feat, layout, rows) for feat in (plain, masked))
    hidden = torch.tensor(reference.resize_mask(mask.numpy(), before.shape[1:3])) == 1
    assert torch.equal(after[~hidden], before[~hidden]) and (after[hidden] != before[hidden]).all()
    if layout.startswith('blc'):
        extra = plain.shape[1] - hidden[0].numel()
        assert torch.equal(masked[:, :extra], plain[:, :extra])


@pytest.mark.parametrize('size', [(36, 60), (20, 28)], ids=str)
def test_features_that_are_no_multiple_of_the_mask_grid(size):
    backbone, mask = LastSite(), random_mask((4, 5))
    token = make_token(backbone)
    assert_placed(*forwards(backbone, token, image(size), mask), mask, token, 'bchw')


@pytest.mark.parametrize('form', ['tuple', 'tuple_bchw', 'namedtuple'])
def test_first_element_of_a_tuple_is_the_feature_and_the_rest_passes(form):
    backbone, mask = LastSite(form), random_mask()
    token = make_token(backbone)
    plain, masked = forwards(backbone, token, image(), mask)
    assert type(masked) is type(plain)
    assert_placed(plain[0], masked[0], mask, token, 'blc+0' if form == 'tuple' else 'bchw')
    assert torch.equal(masked[1], plain[1]) if form == 'tuple_bchw' else tuple(masked[1]) == (8, 12)


# ---- backbones of other people -------------------------------------------------------------------


def resnet18(**kwargs):
    return ResNet(depth=18, stem_channels=16, base_channels=16, **kwargs)


def vit(**kwargs):
    arch = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
    return VisionTransformer(arch=arch, img_size=(64, 96), patch_size=8, out_type='featmap', **kwargs)


def swin():
    arch = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4])
    return SwinTransformer(arch=arch, img_size=64, patch_size=4, window_size=2, drop_path_rate=0.0)


FOUR, WIDTHS, SIZE = (1, 1, 1, 1), (8, 16, 24, 32), (64, 96)
TIMM = dict(
    ResNet=dict(layers=FOUR, channels=WIDTHS),
    SwinTransformer=dict(img_size=SIZE, embed_dim=8, depths=FOUR, num_heads=(1, 2, 2, 4), window_size=2),
    ConvNeXt=dict(depths=FOUR, dims=WIDTHS),
    VisionTransformer=dict(img_size=SIZE, patch_size=8, embed_dim=24, depth=3, num_heads=2, reg_tokens=4),
)


def timm_model(name):
    models = pytest.importorskip('timm.models')
    block = dict(block=models.resnet.BasicBlock) if name == 'ResNet' else {}
    return getattr(models, name)(num_classes=0, **TIMM[name], **block)


# build, channels, site, layout of its output and its size for 64 x 96 pixels
OTHERS = {
    'mmpretrain_resnet_stage3': (resnet18, 64, 'layer3', 'bchw', (4, 6)),
    'mmpretrain_resnet_block': (resnet18, 32, 'layer2.0', 'bchw', (8, 12)),
    'mmpretrain_vit': (vit, 24, 'layers.0', 'blc+1', (8, 12)),
    'mmpretrain_vit_no_cls': (lambda: vit(with_cls_token=False), 24, 'layers.0', 'blc+0', (8, 12)),
    'mmpretrain_swin': (swin, 16, 'stages.1', 'tuple', (8, 12)),
    'timm_resnet': (lambda: timm_model('ResNet'), 24, 'layer3', 'bchw', (4, 6)),
    'timm_swin': (lambda: timm_model('SwinTransformer'), 16, 'layers.1', 'bhwc', (8, 12)),
    'timm_convnext': (lambda: timm_model('ConvNeXt'), 24, 'stages.2', 'bchw', (4, 6)),
    'timm_vit': (lambda: timm_model('VisionTransformer'), 24, 'blocks.1', 'blc+5', (8, 12)),
}  # fmt: skip


@pytest.mark.parametrize('name', OTHERS)
def test_backbones_of_other_people(name):
    build, channels, site, layout, rows_cols = OTHERS[name]
    backbone = build()
    backbone.eval()  # on its own line: mmpretrain's own returns None
    keys, before_hooks = list(backbone.state_dict()), hooks(backbone)
    img, mask = image((64, 96)), random_mask((4, 6))
    bare = backbone(img)
    token = make_token(backbone, channels, site)
    seen = []
    record = dict(backbone.named_modules())[site].register_forward_hook(lambda *args: seen.append(args[2]))
    plain, masked = forwards(backbone, token, img, mask)
    record.remove()

    assert_equal(plain, bare)
    before, after = (out[0] if layout == 'tuple' else out for out in seen)
    layout = layout.replace('tuple', 'blc+0')
    assert to_bhwc(before, layout, rows_cols[0]).shape[1:] == (*rows_cols, channels)
    assert_placed(before, after, mask, token, layout, rows_cols[0], atol=1e-5)
    last = masked[-1] if isinstance(masked, tuple) else masked
    last.square().sum().backward()
    assert token.token.grad.abs().max() > 0

    token.remove()
    assert_equal(backbone(img), bare)
    assert list(backbone.state_dict()) == keys and hooks(backbone) == before_hooks


def assert_equal(got, expected):
    got, expected = (out if isinstance(out, tuple) else (out,) for out in (got, expected))
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


# ---- outside pre-training ------------------------------------------------------------------------


def test_removal_leaves_nothing_behind_but_other_peoples_hooks():
    backbone, calls = LastSite(), []
    backbone.site.register_forward_hook(lambda *args: calls.append('theirs'))
    before = hooks(backbone)
    names = {name: set(vars(module)) for name, module in backbone.named_modules()}
    keys, count = list(backbone.state_dict()), len(list(backbone.parameters()))
    token = make_token(backbone)
    assert list(backbone.state_dict()) == keys and len(list(backbone.parameters())) == count
    assert hooks(backbone) != before
    token.remove()
    assert hooks(backbone) == before
    assert {name: set(vars(module)) for name, module in backbone.named_modules()} == names
    backbone(image())
    assert calls == ['theirs']


def test_token_is_attached_to_one_backbone_at_a_time():
    token, first, second = MaskToken(channels=5, site='site'), LastSite(), LastSite()
    with pytest.raises(RuntimeError, match='attach'), token.masked(random_mask()):
        pass
    token.attach(first)
    with pytest.raises(RuntimeError, match='attached'):
        token.attach(second)
    token.remove()
    token.attach(second)
    plain, masked = forwards(second, token, image(), random_mask())
    assert not torch.equal(masked, plain) and not hooks(first)


def test_mask_serves_one_forward():
    backbone, img = LastSite(), image()
    token = make_token(backbone)
    bare, first = forwards(backbone, token, img, random_mask(seed=0))
    with token.masked(random_mask(seed=1)):
        second = backbone(img)
        assert torch.equal(backbone(img), bare)  # within the context, but not the one forward
    assert not torch.equal(first, bare) and not torch.equal(first, second)
    assert torch.equal(backbone(img), bare)
    assert torch.equal(forwards(backbone, token, img, random_mask(seed=0))[1], first)


def test_mask_of_a_forward_that_never_ran_or_failed_does_not_wait():
    backbone, img = LastSite(), image()
    token = make_token(backbone)
    bare = backbone(img)
    with token.masked(random_mask()):
        pass
    assert torch.equal(backbone(img), bare)
    with pytest.raises(ZeroDivisionError), token.masked(random_mask()):
        raise ZeroDivisionError
    assert torch.equal(backbone(img), bare)
    with pytest.raises(RuntimeError), token.masked(random_mask()):
        backbone(torch.zeros(2, 5, 32, 48))
    assert torch.equal(backbone(img), bare)


def test_initial_values():
    torch.manual_seed(0)
    token = MaskToken(channels=4096, site='stage1', gate_init=1e-6)
    assert token.token.std().item() == pytest.approx(0.02, rel=0.05)
    assert token.token.mean().item() == pytest.approx(0.0, abs=0.002)
    assert (token.gate == 1e-6).all() and list(token.state_dict()) == ['token', 'gate']
    assert list(MaskToken(channels=6, site='stage1').state_dict()) == ['token']


# ---- users' mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('build', 'site', 'words'),
    [
        (Conv, 'stage_0', r'stage_0.*Conv.*stages\.0'),
        (Conv, 'zzz', r'zzz.*stem.*stages'),  # far from any name: the children
        (vit, 'layers.12', r'layers\.12.*layers\.1'),
        (Conv, '', 'stem.*stages'),  # the backbone itself
    ],
)
def test_unknown_site_is_answered_with_the_nearest_names(build, site, words):
    backbone = build()
    before = hooks(backbone)
    with pytest.raises(ValueError, match=words):
        MaskToken(channels=5, site=site).attach(backbone)
    assert hooks(backbone) == before


def test_site_that_the_forward_never_runs_is_an_error():
    backbone = LastSite()
    token = make_token(backbone, site='unused')
    backbone(image())
    with pytest.raises(InputError, match='unused'), token.masked(random_mask()):
        backbone(image())
    backbone(image())


@pytest.mark.parametrize(
    ('layout', 'channels', 'size', 'grid'),
    [('bchw', 8, (32, 32), (4, 4)), ('bhwc', 8, (32, 32), (4, 4)), ('bchw', 12, (32, 48), (4, 6))],
)
def test_ambiguous_shape_asks_for_the_layout(layout, channels, size, grid):
    backbone, mask = LastSite(layout, channels), random_mask(grid)
    token = make_token(backbone, channels)
    with pytest.raises(ValueError, match='bchw.*bhwc.*layout='), token.masked(mask):
        backbone(image(size))
    token.remove()
    told = make_token(backbone, channels, layout=layout)
    assert_placed(*forwards(backbone, told, image(size), mask), mask, told, layout)


def test_layout_with_extra_tokens_can_be_told():
    backbone, mask = LastSite('blc+12'), random_mask()
    undecided = make_token(backbone)
    with pytest.raises(ValueError, match='2, 108, 5'), undecided.masked(mask):
        backbone(image())
    undecided.remove()
    token = make_token(backbone, layout='blc+12')
    before, after = forwards(backbone, token, image(), mask)
    assert torch.equal(after[:, :12], before[:, :12])
    assert_placed(before, after, mask, token, 'blc+12')


@pytest.mark.parametrize(
    ('form', 'told', 'mask', 'words'),
    [
        ('bchw', dict(channels=7), {}, '2, 5, 8, 12.*channels=7.*5'),
        ('bhwc', dict(channels=7), {}, '2, 8, 12, 5.*channels=7.*5'),
        ('blc+0', dict(channels=7), {}, '2, 96, 5.*channels=7.*5'),
        ('blc+0', {}, dict(grid=(4, 5)), '2, 96, 5.*4, 5'),  # no grid of tokens has that shape
        ('blc+0', dict(layout='blc+1'), {}, "96 tokens .*'site', less 1, .*4, 6"),
        ('blc+0', {}, dict(batch=3), '2, 96, 5.*another batch'),  # as windows of attention have
        ('pooled', {}, {}, '2, 5'),
        ('list', {}, {}, "'site' is a list, no tensor"),
        ('bchw', {}, dict(grid=(16, 24)), "16 x 24 is finer than the 8 x 12 .*'site'.*patch_size"),
        ('bchw', {}, dict(grid=(9, 12)), 'finer than the 8 x 12'),
        ('bhwc', {}, dict(grid=(8, 13)), 'finer than the 8 x 12'),
        ('blc+0', {}, dict(grid=(16, 24)), 'finer than the 8 x 12'),
    ],
)
def test_feature_that_cannot_take_the_token_is_named(form, told, mask, words):
    backbone = LastSite(form)
    with pytest.raises(ValueError, match=words), make_token(backbone, **told).masked(random_mask(**mask)):
        backbone(image())


@pytest.mark.parametrize(
    ('wrong', 'kind', 'words'),
    [
        (dict(mode='multiply'), ValueError, 'mode.*multiply'),
        (dict(layout='hwc'), ValueError, 'layout.*hwc'),
        (dict(channels=0), ValueError, 'channels.*0'),
        (dict(mode='replace', gate_init=1e-6), ValueError, 'gate_init'),
        (dict(where='layer3'), TypeError, 'where'),
    ],
)
def test_wrong_argument_is_named(wrong, kind, words):
    with pytest.raises(kind, match=words):
        MaskToken(**{**dict(channels=6, site='stage1'), **wrong})


# ---- gradient ------------------------------------------------------------------------------------


@EACH_MODE
def test_gradient_is_the_sum_over_hidden_positions(mode):
    backbone, img, mask = LastSite(), image(), random_mask()
    token = make_token(backbone, **mode)
    feat = backbone(img)
    weights = torch.randn(feat.shape, generator=torch.Generator().manual_seed(2))
    with token.masked(mask):
        (backbone(img) * weights).sum().backward()
    hidden = torch.tensor(reference.resize_mask(mask.numpy(), feat.shape[2:]))[:, None]
    close = dict(atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(token.token.grad, (weights * hidden).sum((0, 2, 3)), **close)
    kept = 0.0 if mode['mode'] == 'replace' else 1.0  # of hidden features
    if token.gate is not None:
        torch.testing.assert_close(token.gate.grad, (weights * feat * hidden).sum((0, 2, 3)), **close)
        kept = token.gate.detach().view(-1, 1, 1)
    (expected,) = torch.autograd.grad(feat, backbone.body.weight, weights * (1 - hidden + kept * hidden))
    torch.testing.assert_close(backbone.body.weight.grad, expected, **close)


@EACH_MODE
@pytest.mark.parametrize('reentrant', [True, False])
def test_gradient_under_checkpointing_inside_the_backbone(reentrant, mode):
    plain, kept = Conv(), Conv(reentrant=reentrant)
    kept.load_state_dict(plain.state_dict())
    img, mask = image(), random_mask()
    expected, got = (
        token_gradient(net, make_token(net, site='stages.0', **mode), img, mask) for net in (plain, kept)
    )
    assert all(grad.abs().max() > 0 for grad in expected)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close([p.grad for p in kept.parameters()], [p.grad for p in plain.parameters()])


@pytest.mark.parametrize('reentrant', [True, False])
def test_gradient_when_the_whole_backbone_is_checkpointed(reentrant):
    backbone = Conv()
    token = make_token(backbone, site='stages.0')
    img, mask = image().requires_grad_(), random_mask()
    expected = token_gradient(backbone, token, img, mask)
    got = token_gradient(lambda x: checkpoint(backbone, x, use_reentrant=reentrant), token, img, mask)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize('site', ['layer3', 'layer3.1'])
@pytest.mark.filterwarnings('ignore:.*use_reentrant')
def test_gradient_in_a_resnet_with_cp(site):
    torch.manual_seed(0)
    plain, kept = resnet18(), resnet18(with_cp=True)
    kept.load_state_dict(plain.state_dict())
    img, mask = image((64, 96)), random_mask((2, 3))
    expected, got = (token_gradient(net, make_token(net, 64, site), img, mask) for net in (plain, kept))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('wrapped', ['stages', 'stages.0', ['stem', 'stages']], ids=str)
@pytest.mark.parametrize('site', ['stages.0', 'stages.2', 'stages'])
@pytest.mark.filterwarnings('ignore:.*requires_grad=True. Gradients will be None')
def test_gradient_under_mmengines_wrapper(site, wrapped):
    plain = Conv()
    kept = copy.deepcopy(plain)
    img, mask = image().requires_grad_(), random_mask()
    expected = token_gradient(plain, make_token(plain, site=site), img, mask)
    token = make_token(kept, site=site)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*use_reentrant', category=UserWarning)
        turn_on_activation_checkpointing(kept, wrapped)
        torch.testing.assert_close(token_gradient(kept, token, img, mask), expected)


@pytest.mark.parametrize('order', ['token first', 'wrapper first'])
@pytest.mark.filterwarnings('ignore:.*use_reentrant')
def test_gradient_under_mmengines_wrapper_of_the_whole_backbone(order):
    plain = Conv()
    kept = nn.ModuleDict(dict(backbone=copy.deepcopy(plain)))
    img, mask = image().requires_grad_(), random_mask()
    expected = token_gradient(plain, make_token(plain, site='stages.0'), img, mask)
    if order == 'token first':
        token = make_token(kept['backbone'], site='stages.0')
    turn_on_activation_checkpointing(kept, 'backbone')
    if order == 'wrapper first':
        token = make_token(kept['backbone'], site='stages.0')
    torch.testing.assert_close(token_gradient(kept['backbone'], token, img, mask), expected)


# ---- torch.compile, copies and precision ---------------------------------------------------------


def test_compiled_backbone():
    torch.compiler.reset()
    backbone, img = Conv(), image()
    token = make_token(backbone, site='stages.0', gate_init=0.5)
    # fullgraph: the hooks break no graph
    compiled = torch.compile(backbone, backend='aot_eager', fullgraph=True)
    bare = backbone(img)[0].detach()
    for seed in (0, 1):
        mask = random_mask(seed=seed)
        plain, masked = forwards(compiled, token, img, mask)
        torch.testing.assert_close(plain[0], bare)
        torch.testing.assert_close(masked, forwards(backbone, token, img, mask)[1])
        expected = token_gradient(backbone, token, img, mask)
        assert expected[0].abs().max() > 0
        torch.testing.assert_close(token_gradient(compiled, token, img, mask), expected)
    torch.testing.assert_close(compiled(img)[0], bare)


def test_copy_of_token_and_backbone_is_wired_to_itself():
    pair = nn.ModuleDict(dict(backbone=LastSite()))
    pair['token'] = make_token(pair['backbone'])
    img, mask = image(), random_mask()
    bare, before = forwards(pair['backbone'], pair['token'], img, mask)
    twin = copy.deepcopy(pair)
    with torch.no_grad():
        twin['token'].token += 1
    changed = forwards(twin['backbone'], twin['token'], img, mask)[1]
    hidden = torch.tensor(reference.resize_mask(mask.numpy(), bare.shape[2:]))[:, None]
    torch.testing.assert_close(changed, before + hidden)

    # the copy's mask arms the copy only, and the original's the original only
    with twin['token'].masked(mask):
        assert torch.equal(pair['backbone'](img), bare)
    with pair['token'].masked(mask):
        assert torch.equal(twin['backbone'](img), bare)
    assert torch.equal(forwards(pair['backbone'], pair['token'], img, mask)[1], before)
    twin['token'].remove()
    assert not hooks(twin['backbone']) and hooks(pair['backbone'])
    assert torch.equal(copy.deepcopy(pair['backbone'])(img), bare)  # a copy without its token still runs


@EACH_MODE
@pytest.mark.parametrize('layout', ['bchw', 'bhwc', 'blc+0'])
def test_dtype_of_the_feature_survives(layout, mode):
    backbone = LastSite(layout)
    token = make_token(backbone, **mode)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        plain, masked = forwards(backbone, token, image(), random_mask())
    assert plain.dtype == masked.dtype == torch.bfloat16
    masked.float().sum().backward()
    assert token.token.grad.dtype == torch.float32
