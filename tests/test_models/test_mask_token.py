"""The mask token inside backbones that know nothing of it."""

import copy
import warnings

import numpy as np
import pytest
import torch
from helpers import reference, toys
from mmengine.runner import turn_on_activation_checkpointing
from mmpretrain.models import ResNet, SwinTransformer, VisionTransformer
from torch import nn
from torch.utils.checkpoint import checkpoint

from a2mim_mm.errors import InputError
from a2mim_mm.models.mask_token import MaskToken
from a2mim_mm.models.masking import RandomPatchMask, draw_scores


def image(size=(32, 48), batch=2, seed=0):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def random_mask(grid=(4, 6), batch=2, seed=0):
    return RandomPatchMask(ratio=0.5)(draw_scores([(seed, i) for i in range(batch)], grid))


def make_token(backbone, channels, site, **kwargs):
    """A token with random values, attached."""
    token = MaskToken(channels=channels, site=site, **kwargs)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for param in token.parameters():
            param.copy_(torch.randn(param.shape, generator=generator))
    token.attach(backbone)
    return token


def placed_by_hand(feat_bhwc, mask, token, mode='add'):
    """What the paper says happens to a feature (B, h, w, C): z + T * D(M), or its ablation."""
    hidden = reference.resize_mask(mask.numpy(), feat_bhwc.shape[1:3])[..., None]
    value = token.token.detach().numpy()
    feat = feat_bhwc.numpy()
    if mode == 'replace':
        return np.where(hidden == 1, value, feat)
    gate = 1.0 if token.gate is None else token.gate.detach().numpy()
    return np.where(hidden == 1, feat * gate + value, feat)


def forwards(backbone, token, img, mask):
    """The output without and with the mask."""
    plain = backbone(img)
    with token.masked(mask):
        return plain, backbone(img)


def to_bhwc(feat, layout, num_extra=0, rows=8):
    feat = feat.detach()
    if layout == 'bchw':
        return feat.permute(0, 2, 3, 1)
    return feat if layout == 'bhwc' else feat[:, num_extra:].unflatten(1, (rows, -1))


def assert_placed(before, after, mask, token, layout, num_extra=0, rows=8, mode='add', atol=1e-6):
    before, after = (to_bhwc(feat, layout, num_extra, rows) for feat in (before, after))
    np.testing.assert_allclose(after.numpy(), placed_by_hand(before, mask, token, mode), atol=atol)


# ---- what changes, in every layout ---------------------------------------------------------------

LAYOUTS = [('bchw', 0), ('bhwc', 0), ('blc', 0), ('blc', 1), ('blc', 2), ('blc', 5)]
MODES = [dict(mode='add'), dict(mode='replace'), dict(mode='add', gate_init=1e-6)]


@pytest.mark.parametrize('size', [(32, 48), (48, 32), (32, 32)], ids=lambda size: f'{size[0]}x{size[1]}')
@pytest.mark.parametrize('mode', MODES, ids=['add', 'replace', 'gated'])
@pytest.mark.parametrize('layout, num_extra', LAYOUTS)
@torch.no_grad()
def test_only_hidden_positions_change_and_as_the_formula_says(layout, num_extra, mode, size):
    backbone = toys.LastSite(layout, channels=5, num_extra=num_extra)
    token = make_token(backbone, 5, 'site', **mode)
    rows, mask = size[0] // 4, random_mask((size[0] // 8, size[1] // 8))
    plain, masked = forwards(backbone, token, image(size), mask)
    assert masked.shape == plain.shape
    assert_placed(plain, masked, mask, token, layout, num_extra, rows, mode['mode'])
    before, after = (to_bhwc(feat, layout, num_extra, rows) for feat in (plain, masked))
    hidden = torch.tensor(reference.resize_mask(mask.numpy(), before.shape[1:3])) == 1
    assert torch.equal(after[~hidden], before[~hidden]) and (after[hidden] != before[hidden]).all()
    if num_extra:
        assert torch.equal(masked[:, :num_extra], plain[:, :num_extra])


@pytest.mark.parametrize('size', [(36, 60), (20, 28)], ids=str)
@torch.no_grad()
def test_features_that_are_no_multiple_of_the_mask_grid(size):
    backbone, mask = toys.LastSite('bchw', channels=5), random_mask((4, 5))
    token = make_token(backbone, 5, 'site')
    assert_placed(*forwards(backbone, token, image(size), mask), mask, token, 'bchw')


@pytest.mark.parametrize('layout', ['tuple', 'tuple_bchw', 'namedtuple'])
@torch.no_grad()
def test_first_element_of_a_tuple_is_the_feature_and_the_rest_passes(layout):
    backbone, mask = toys.LastSite(layout, channels=5), random_mask()
    token = make_token(backbone, 5, 'site')
    plain, masked = forwards(backbone, token, image(), mask)
    assert type(masked) is type(plain)
    assert_placed(plain[0], masked[0], mask, token, 'blc' if layout == 'tuple' else 'bchw')
    if layout == 'tuple_bchw':
        assert torch.equal(masked[1], plain[1])
    else:
        assert tuple(masked[1]) == (8, 12)


# ---- backbones of other people -------------------------------------------------------------------


def resnet18(**kwargs):
    # a quarter of the width: 16, 32, 64, 128 channels
    return ResNet(depth=18, stem_channels=16, base_channels=16, **kwargs)


def vit(**kwargs):
    arch = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
    return VisionTransformer(arch=arch, img_size=(64, 96), patch_size=8, **kwargs)


def swin():
    arch = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4])
    return SwinTransformer(arch=arch, img_size=64, patch_size=4, window_size=2, drop_path_rate=0.0)


def timm_model(family, name, **kwargs):
    pytest.importorskip('timm')
    module = pytest.importorskip(f'timm.models.{family}')
    return getattr(module, name)(num_classes=0, **kwargs)


def timm_resnet():
    block = pytest.importorskip('timm.models.resnet').BasicBlock
    return timm_model('resnet', 'ResNet', block=block, layers=(1, 1, 1, 1), channels=(8, 16, 24, 32))


def timm_swin():
    kwargs = dict(img_size=(64, 96), patch_size=4, embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4))
    return timm_model('swin_transformer', 'SwinTransformer', window_size=2, **kwargs)


def timm_convnext():
    return timm_model('convnext', 'ConvNeXt', depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))


def timm_vit(**kwargs):
    size = dict(img_size=(64, 96), patch_size=8, embed_dim=24, depth=3, num_heads=2)
    return timm_model('vision_transformer', 'VisionTransformer', **size, **kwargs)


# build, channels and site, layout and number of extra tokens of its output, its size for 64 x 96 pixels
OTHERS = {
    'mmpretrain_resnet_stage3': (resnet18, 64, 'layer3', 'bchw', 0, (4, 6)),
    'mmpretrain_resnet_block': (resnet18, 32, 'layer2.0', 'bchw', 0, (8, 12)),
    'mmpretrain_vit': (vit, 24, 'layers.0', 'blc', 1, (8, 12)),
    'mmpretrain_vit_no_cls': (
        lambda: vit(with_cls_token=False, out_type='featmap'), 24, 'layers.0', 'blc', 0, (8, 12)
    ),
    'mmpretrain_swin': (swin, 16, 'stages.1', 'tuple', 0, (8, 12)),
    'timm_resnet': (timm_resnet, 24, 'layer3', 'bchw', 0, (4, 6)),
    'timm_swin': (timm_swin, 16, 'layers.1', 'bhwc', 0, (8, 12)),
    'timm_convnext': (timm_convnext, 24, 'stages.2', 'bchw', 0, (4, 6)),
    'timm_vit': (timm_vit, 24, 'blocks.1', 'blc', 1, (8, 12)),
    'timm_vit_registers': (lambda: timm_vit(reg_tokens=4), 24, 'blocks.1', 'blc', 5, (8, 12)),
}  # fmt: skip


@pytest.mark.parametrize('name', OTHERS)
def test_backbones_of_other_people(name):
    build, channels, site, layout, num_extra, rows_cols = OTHERS[name]
    backbone = build()
    backbone.eval()  # on its own line: mmpretrain's own returns None
    keys, hooks = list(backbone.state_dict()), toys.hooks(backbone)
    img, mask = image((64, 96)), random_mask((4, 6))
    with torch.no_grad():
        bare = backbone(img)
    token = make_token(backbone, channels, site)

    seen = []
    record = dict(backbone.named_modules())[site].register_forward_hook(lambda *args: seen.append(args[2]))
    plain, masked = forwards(backbone, token, img, mask)
    record.remove()
    assert_equal(plain, bare)
    before, after = (out[0] if layout == 'tuple' else out for out in seen)
    assert to_bhwc(before, layout, num_extra, rows_cols[0]).shape[1:] == (*rows_cols, channels)
    assert_placed(before, after, mask, token, layout, num_extra, rows_cols[0], atol=1e-5)

    last = masked[-1] if isinstance(masked, tuple) else masked
    last.square().sum().backward()
    assert token.token.grad.abs().max() > 0

    token.remove()
    with torch.no_grad():
        assert_equal(backbone(img), bare)
    assert list(backbone.state_dict()) == keys
    assert toys.hooks(backbone) == hooks


def assert_equal(got, expected):
    got, expected = (out if isinstance(out, tuple) else (out,) for out in (got, expected))
    assert all(torch.equal(one.detach(), other) for one, other in zip(got, expected, strict=True))


# ---- outside pre-training ------------------------------------------------------------------------


def test_removal_leaves_nothing_behind_but_other_peoples_hooks():
    backbone, calls = toys.Conv(), []
    backbone.stage1.register_forward_hook(lambda *args: calls.append('theirs'))
    hooks = toys.hooks(backbone)
    names = {name: set(vars(module)) for name, module in backbone.named_modules()}
    keys, count = list(backbone.state_dict()), len(list(backbone.parameters()))
    token = make_token(backbone, 6, 'stage1')
    assert list(backbone.state_dict()) == keys and len(list(backbone.parameters())) == count
    assert toys.hooks(backbone) != hooks
    token.remove()
    assert toys.hooks(backbone) == hooks
    assert {name: set(vars(module)) for name, module in backbone.named_modules()} == names
    backbone(image())
    assert calls == ['theirs']


def test_token_is_attached_to_one_backbone_at_a_time():
    token, first, second = MaskToken(channels=6, site='site'), toys.LastSite(), toys.LastSite()
    with pytest.raises(RuntimeError, match='attach'), token.masked(random_mask()):
        pass
    token.attach(first)
    with pytest.raises(RuntimeError, match='attached'):
        token.attach(second)
    token.remove()
    token.attach(second)
    plain, masked = forwards(second, token, image(), random_mask())
    assert not torch.equal(masked, plain) and not toys.hooks(first)


def test_mask_serves_one_forward():
    backbone, img = toys.LastSite(), image()
    token = make_token(backbone, 6, 'site')
    bare, first = forwards(backbone, token, img, random_mask(seed=0))
    with token.masked(random_mask(seed=1)):
        second = backbone(img)
        assert torch.equal(backbone(img), bare)  # within the context, but not the one forward
    assert not torch.equal(first, bare) and not torch.equal(first, second)
    assert torch.equal(backbone(img), bare)
    assert torch.equal(forwards(backbone, token, img, random_mask(seed=0))[1], first)


def test_mask_of_a_forward_that_never_ran_or_failed_does_not_wait():
    backbone, img = toys.LastSite(), image()
    token = make_token(backbone, 6, 'site')
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
    assert token.token.shape == (4096,)
    assert token.token.std().item() == pytest.approx(0.02, rel=0.05)
    assert token.token.mean().item() == pytest.approx(0.0, abs=0.002)
    assert (token.gate == 1e-6).all() and list(token.state_dict()) == ['token', 'gate']
    assert list(MaskToken(channels=6, site='stage1').state_dict()) == ['token']


# ---- users' mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('build', 'site', 'words'),
    [
        (toys.Conv, 'stage_1', r'stage_1.*Conv.*stage1'),
        (toys.Conv, 'zzz', r'zzz.*stem.*stage1.*stage2'),  # far from any name: all children
        (vit, 'layers.12', r'layers\.12.*layers\.1'),
        (toys.Conv, '', 'site'),  # the backbone itself
        (toys.Conv, 'self', 'site'),
    ],
)
def test_unknown_site_is_answered_with_the_nearest_names(build, site, words):
    backbone = build()
    hooks = toys.hooks(backbone)
    with pytest.raises(ValueError, match=f'(?s){words}'):
        MaskToken(channels=6, site=site).attach(backbone)
    assert toys.hooks(backbone) == hooks


def test_site_that_the_forward_never_runs_is_an_error():
    backbone = toys.Detour()
    token = make_token(backbone, 6, 'unused')
    backbone(image())
    with pytest.raises(InputError, match='unused'), token.masked(random_mask()):
        backbone(image())
    backbone(image())


@pytest.mark.parametrize(
    'layout, channels, size, grid',
    [('bchw', 8, (32, 32), (4, 4)), ('bhwc', 8, (32, 32), (4, 4)), ('bchw', 12, (32, 48), (4, 6))],
)
def test_ambiguous_shape_asks_for_the_layout(layout, channels, size, grid):
    backbone = toys.LastSite(layout, channels=channels)
    token = make_token(backbone, channels, 'site')
    with pytest.raises(ValueError, match=r'(?s)bchw.*bhwc.*layout='), token.masked(random_mask(grid)):
        backbone(image(size))
    token.remove()

    told, mask = make_token(backbone, channels, 'site', layout=layout), random_mask(grid)
    assert_placed(*forwards(backbone, told, image(size), mask), mask, told, layout)


def test_layout_with_extra_tokens_can_be_told():
    backbone, mask = toys.LastSite('blc', channels=5, num_extra=12), random_mask()
    undecided = make_token(backbone, 5, 'site')
    with pytest.raises(ValueError, match=r'2, 108, 5'), undecided.masked(mask):
        backbone(image())
    undecided.remove()
    token = make_token(backbone, 5, 'site', layout='blc+12')
    before, after = forwards(backbone, token, image(), mask)
    assert torch.equal(after[:, :12], before[:, :12])
    assert_placed(before, after, mask, token, 'blc', 12)


class Staged(nn.Module):
    """A backbone whose site puts its feature in any form."""

    def __init__(self, form):
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 4, 4)
        self.site = nn.Identity()
        self.site.forward = form

    def forward(self, img):
        return self.site(self.stem(img))


FORMS = dict(
    bchw=lambda feat: feat, bhwc=lambda feat: feat.permute(0, 2, 3, 1), blc=lambda feat: feat.flatten(2).mT
)


@pytest.mark.parametrize(
    ('form', 'channels', 'mask', 'words'),
    [
        (FORMS['bchw'], 7, {}, r'2, 5, 8, 12.*channels=7.*5'),
        (FORMS['bhwc'], 7, {}, r'2, 8, 12, 5.*channels=7.*5'),
        (FORMS['blc'], 7, {}, r'2, 96, 5.*channels=7.*5'),
        (FORMS['blc'], 5, dict(grid=(4, 5)), r'2, 96, 5.*4, 5'),  # no grid of tokens has that shape
        (lambda feat: feat.mean((2, 3)), 5, {}, r'2, 5'),
        (lambda feat: [feat, feat], 5, {}, "'site' is a list, no tensor"),
        (FORMS['blc'], 5, dict(batch=3), r'2, 96, 5.*another batch'),  # as windows of attention have
        (FORMS['bchw'], 5, dict(grid=(16, 24)), "16 x 24 is finer than the 8 x 12 .*'site'.*patch_size"),
        (FORMS['bchw'], 5, dict(grid=(9, 12)), 'finer than the 8 x 12'),
        (FORMS['bhwc'], 5, dict(grid=(8, 13)), 'finer than the 8 x 12'),
        (FORMS['blc'], 5, dict(grid=(16, 24)), 'finer than the 8 x 12'),
    ],
)
def test_feature_that_cannot_take_the_token_is_named(form, channels, mask, words):
    backbone = Staged(form)
    token = make_token(backbone, channels, 'site')
    with pytest.raises(ValueError, match=words), token.masked(random_mask(**mask)):
        backbone(image())


def test_layout_that_does_not_fit_the_mask_grid_is_named():
    backbone = Staged(FORMS['blc'])
    token = make_token(backbone, 5, 'site', layout='blc+1')
    with pytest.raises(ValueError, match=r"96 tokens .*'site', less 1, .*4, 6"), token.masked(random_mask()):
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


@pytest.mark.parametrize('mode', MODES, ids=['add', 'replace', 'gated'])
def test_gradient_is_the_sum_over_hidden_positions(mode):
    backbone = toys.LastSite('bchw', channels=5)
    token = make_token(backbone, 5, 'site', **mode)
    img, mask = image(), random_mask()
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


@pytest.mark.parametrize('mode', MODES, ids=['add', 'replace', 'gated'])
@pytest.mark.parametrize('reentrant', [True, False])
def test_gradient_under_checkpointing_inside_the_backbone(reentrant, mode):
    plain = toys.Conv()
    kept = toys.Conv(reentrant=reentrant)
    kept.load_state_dict(plain.state_dict())
    img, mask = image(), random_mask()
    expected, got = (
        toys.token_gradient(net, make_token(net, 6, 'stage1', **mode), img, mask) for net in (plain, kept)
    )
    assert all(grad.abs().max() > 0 for grad in expected)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close([p.grad for p in kept.parameters()], [p.grad for p in plain.parameters()])


@pytest.mark.parametrize('reentrant', [True, False])
def test_gradient_when_the_whole_backbone_is_checkpointed(reentrant):
    backbone = toys.Conv()
    token = make_token(backbone, 6, 'stage1')
    img, mask = image().requires_grad_(), random_mask()
    expected = toys.token_gradient(backbone, token, img, mask)
    got = toys.token_gradient(lambda x: checkpoint(backbone, x, use_reentrant=reentrant), token, img, mask)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize('site', ['layer3', 'layer3.1'])
@pytest.mark.filterwarnings('ignore:.*use_reentrant')
def test_gradient_in_a_resnet_with_cp(site):
    torch.manual_seed(0)
    plain = resnet18()
    kept = resnet18(with_cp=True)
    kept.load_state_dict(plain.state_dict())
    img, mask = image((64, 96)), random_mask((2, 3))
    expected, got = (toys.token_gradient(net, make_token(net, 64, site), img, mask) for net in (plain, kept))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('wrapped', ['parent', 'parent.0', ['stem', 'parent']], ids=str)
@pytest.mark.parametrize('site', ['parent.0', 'parent.2', 'parent'])
@pytest.mark.filterwarnings('ignore:.*requires_grad=True. Gradients will be None')
def test_gradient_under_mmengines_wrapper(site, wrapped):
    plain, kept = toys.Nested(), toys.Nested()
    kept.load_state_dict(plain.state_dict())
    img, mask = image().requires_grad_(), random_mask()
    expected = toys.token_gradient(plain, make_token(plain, 6, site), img, mask)
    token = make_token(kept, 6, site)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*use_reentrant', category=UserWarning)
        turn_on_activation_checkpointing(kept, wrapped)
        got = toys.token_gradient(kept, token, img, mask)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize('order', ['token first', 'wrapper first'])
@pytest.mark.filterwarnings('ignore:.*use_reentrant')
def test_gradient_under_mmengines_wrapper_of_the_whole_backbone(order):
    plain, kept = toys.Nested(), nn.Module()
    kept.backbone = copy.deepcopy(plain)
    img, mask = image().requires_grad_(), random_mask()
    expected = toys.token_gradient(plain, make_token(plain, 6, 'parent.0'), img, mask)
    if order == 'token first':
        token = make_token(kept.backbone, 6, 'parent.0')
    turn_on_activation_checkpointing(kept, 'backbone')
    if order == 'wrapper first':
        token = make_token(kept.backbone, 6, 'parent.0')
    torch.testing.assert_close(toys.token_gradient(kept.backbone, token, img, mask), expected)


# ---- torch.compile -------------------------------------------------------------------------------


@pytest.mark.parametrize(('backend', 'mode'), [('eager', {}), ('aot_eager', dict(gate_init=0.5))])
def test_compiled_backbone(backend, mode):
    torch.compiler.reset()
    backbone = toys.Conv()
    token = make_token(backbone, 6, 'stage1', **mode)
    # fullgraph: the hooks break no graph
    compiled = torch.compile(backbone, backend=backend, fullgraph=True)
    img = image()
    bare = backbone(img)[0].detach()
    for seed in (0, 1):
        mask = random_mask(seed=seed)
        torch.testing.assert_close(compiled(img)[0], bare)
        expected_feat = forwards(backbone, token, img, mask)[1][0]
        torch.testing.assert_close(forwards(compiled, token, img, mask)[1][0], expected_feat)
        expected = toys.token_gradient(backbone, token, img, mask)
        assert expected[0].abs().max() > 0
        torch.testing.assert_close(toys.token_gradient(compiled, token, img, mask), expected)
    torch.testing.assert_close(compiled(img)[0], bare)


# ---- copies and precision ------------------------------------------------------------------------


def test_copy_of_token_and_backbone_is_wired_to_itself():
    pair = nn.ModuleDict(dict(backbone=toys.LastSite()))
    pair['token'] = make_token(pair['backbone'], 6, 'site')
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
    with pair['token'].masked(mask):
        assert torch.equal(pair['backbone'](img), before)

    twin['token'].remove()
    assert not toys.hooks(twin['backbone']) and toys.hooks(pair['backbone'])
    assert torch.equal(copy.deepcopy(pair['backbone'])(img), bare)  # a copy without its token still runs


@pytest.mark.parametrize('mode', MODES, ids=['add', 'replace', 'gated'])
@pytest.mark.parametrize('layout', ['bchw', 'bhwc', 'blc'])
def test_dtype_of_the_feature_survives(layout, mode):
    backbone = toys.LastSite(layout, channels=5)
    token = make_token(backbone, 5, 'site', **mode)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        plain, masked = forwards(backbone, token, image(), random_mask())
    assert plain.dtype == masked.dtype == torch.bfloat16
    masked.float().sum().backward()
    assert token.token.grad.dtype == torch.float32
