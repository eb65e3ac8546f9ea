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


def to_bhwc(feat, layout, num_extra=0, rows=None):
    if layout == 'bchw':
        return feat.permute(0, 2, 3, 1)
    if layout == 'bhwc':
        return feat
    return feat[:, num_extra:].unflatten(1, (rows, -1))


# ---- what changes, in every layout ---------------------------------------------------------------

LAYOUTS = [('bchw', 0), ('bhwc', 0), ('blc', 0), ('blc', 1), ('blc', 2), ('blc', 5)]
MODES = [dict(mode='add'), dict(mode='replace'), dict(mode='add', gate_init=1e-6)]


SIZES = {(32, 48): (4, 6), (48, 32): (6, 4), (32, 32): (4, 4)}  # of images, and their mask grids


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('mode', MODES, ids=['add', 'replace', 'gated'])
@pytest.mark.parametrize('layout, num_extra', LAYOUTS)
@torch.no_grad()
def test_only_hidden_positions_change_and_as_the_formula_says(layout, num_extra, mode, size):
    backbone = toys.LastSite(layout, channels=5, num_extra=num_extra)
    token = make_token(backbone, 5, 'site', **mode)
    img, mask = image(size), random_mask(SIZES[size])
    plain = backbone(img)
    with token.masked(mask):
        masked = backbone(img)

    assert masked.shape == plain.shape
    before, after = (to_bhwc(feat, layout, num_extra, rows=size[0] // 4) for feat in (plain, masked))
    expected = placed_by_hand(before, mask, token, mode['mode'])
    np.testing.assert_allclose(after.numpy(), expected, atol=1e-6)
    hidden = torch.tensor(reference.resize_mask(mask.numpy(), before.shape[1:3])) == 1
    assert torch.equal(after[~hidden], before[~hidden])
    assert (after[hidden] != before[hidden]).all()
    if num_extra:
        assert torch.equal(masked[:, :num_extra], plain[:, :num_extra])


@pytest.mark.parametrize('size', [(36, 60), (20, 28)], ids=str)
@torch.no_grad()
def test_features_that_are_no_multiple_of_the_mask_grid(size):
    backbone = toys.LastSite('bchw', channels=5)
    token = make_token(backbone, 5, 'site')
    img, mask = image(size), random_mask((4, 5))
    before = backbone(img).permute(0, 2, 3, 1)
    with token.masked(mask):
        after = backbone(img).permute(0, 2, 3, 1)
    np.testing.assert_allclose(after.numpy(), placed_by_hand(before, mask, token), atol=1e-6)


@pytest.mark.parametrize('layout', ['tuple', 'tuple_bchw', 'namedtuple'])
@torch.no_grad()
def test_first_element_of_a_tuple_is_the_feature_and_the_rest_passes(layout):
    backbone = toys.LastSite(layout, channels=5)
    token = make_token(backbone, 5, 'site')
    img, mask = image(), random_mask()
    plain = backbone(img)
    with token.masked(mask):
        masked = backbone(img)
    assert type(masked) is type(plain)
    inner = 'blc' if layout == 'tuple' else 'bchw'
    before, after = (to_bhwc(out[0], inner, rows=8) for out in (plain, masked))
    np.testing.assert_allclose(after.numpy(), placed_by_hand(before, mask, token), atol=1e-6)
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
    plain = backbone(img)
    with token.masked(mask):
        masked = backbone(img)
    record.remove()
    before, after = (out[0] if layout == 'tuple' else out for out in seen)

    assert_equal(plain, bare)
    before, after = (to_bhwc(f.detach(), layout, num_extra, rows=rows_cols[0]) for f in (before, after))
    assert before.shape[1:] == (*rows_cols, channels)
    np.testing.assert_allclose(after.numpy(), placed_by_hand(before, mask, token), atol=1e-5)

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
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one.detach(), other)


# ---- outside pre-training ------------------------------------------------------------------------


def test_backbone_keys_and_parameters_stay_as_they_were():
    backbone = toys.Conv()
    keys, count = list(backbone.state_dict()), len(list(backbone.parameters()))
    token = make_token(backbone, 6, 'stage1')
    with token.masked(random_mask()):
        backbone(image())
    assert list(backbone.state_dict()) == keys
    assert len(list(backbone.parameters())) == count
    assert list(token.state_dict()) == ['token']
    assert list(MaskToken(channels=6, site='stage1', gate_init=1e-6).state_dict()) == ['token', 'gate']


def test_nothing_is_left_behind_after_removal():
    backbone, calls = toys.Conv(), []
    names = {name: set(vars(module)) for name, module in backbone.named_modules()}
    theirs = backbone.stage1.register_forward_hook(lambda *args: calls.append('theirs'))
    make_token(backbone, 6, 'stage1').remove()
    backbone(image())
    assert calls == ['theirs']
    theirs.remove()
    assert not toys.hooks(backbone)
    assert {name: set(vars(module)) for name, module in backbone.named_modules()} == names


def test_token_can_be_attached_again():
    first, second = toys.LastSite(), toys.LastSite()
    token = make_token(first, 6, 'site')
    with pytest.raises(RuntimeError, match='attached'):
        token.attach(second)
    token.remove()
    token.attach(second)
    img = image()
    plain = second(img)
    with token.masked(random_mask()):
        assert not torch.equal(second(img), plain)
    assert not toys.hooks(first)


def test_a_mask_serves_the_one_forward_of_its_context():
    backbone = toys.LastSite()
    token = make_token(backbone, 6, 'site')
    img, mask = image(), random_mask()
    bare = backbone(img)
    with token.masked(mask):
        assert not torch.equal(backbone(img), bare)
        assert torch.equal(backbone(img), bare)
    assert torch.equal(backbone(img), bare)
    with token.masked(mask):
        pass
    assert torch.equal(backbone(img), bare)
    with pytest.raises(ZeroDivisionError), token.masked(mask):
        raise ZeroDivisionError
    assert torch.equal(backbone(img), bare)
    with pytest.raises(RuntimeError), token.masked(mask):
        backbone(torch.zeros(2, 5, 32, 48))
    assert torch.equal(backbone(img), bare)


def test_each_masked_forward_uses_its_own_mask():
    backbone = toys.LastSite()
    token = make_token(backbone, 6, 'site')
    img = image()
    outs = []
    for seed in (0, 1, 0):
        with token.masked(random_mask(seed=seed)):
            outs.append(backbone(img))
    assert not torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])


def test_two_tokens_at_two_sites_do_not_disturb_each_other():
    backbone = toys.Conv()
    first, second = make_token(backbone, 6, 'stage1'), make_token(backbone, 6, 'stage2')
    img, mask = image(), random_mask()
    with second.masked(mask):
        only_second = backbone(img)[0]
    first.remove()
    with second.masked(mask):
        assert torch.equal(backbone(img)[0], only_second)
    assert toys.hooks(backbone)


def test_initial_values():
    torch.manual_seed(0)
    token = MaskToken(channels=4096, site='stage1', gate_init=1e-6)
    assert token.token.shape == (4096,)
    assert token.token.std().item() == pytest.approx(0.02, rel=0.05)
    assert token.token.mean().item() == pytest.approx(0.0, abs=0.002)
    assert (token.gate == 1e-6).all()


# ---- users' mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    'build, site, answer',
    [
        (toys.Conv, 'stage_1', r'stage_1.*Conv.*stage1'),
        (toys.Conv, 'zzz', 'zzz.*stem.*stage1.*stage2'),
        (vit, 'layers.12', r'layers\.12.*layers\.1'),
        (toys.Conv, '', 'stem.*stage1'),
        (toys.Conv, 'self', 'stem.*stage1'),
    ],
)
def test_unknown_site_is_answered_with_the_nearest_names(build, site, answer):
    backbone = build()
    hooks = toys.hooks(backbone)
    with pytest.raises(ValueError, match=answer):
        MaskToken(channels=6, site=site).attach(backbone)
    assert toys.hooks(backbone) == hooks


def test_site_that_the_forward_never_runs_is_an_error():
    backbone = toys.Detour()
    token = make_token(backbone, 6, 'unused')
    backbone(image())
    with pytest.raises(InputError, match='unused'), token.masked(random_mask()):
        backbone(image())
    backbone(image())


def test_mask_without_attachment_is_an_error():
    token = MaskToken(channels=6, site='stage1')
    with pytest.raises(RuntimeError, match='attach'), token.masked(random_mask()):
        pass


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

    told = make_token(backbone, channels, 'site', layout=layout)
    img, mask = image(size), random_mask(grid)
    before = to_bhwc(backbone(img).detach(), layout)
    with told.masked(mask):
        after = to_bhwc(backbone(img).detach(), layout)
    np.testing.assert_allclose(after.numpy(), placed_by_hand(before, mask, told), atol=1e-6)


def test_layout_with_extra_tokens_can_be_told():
    backbone = toys.LastSite('blc', channels=5, num_extra=12)
    img, mask = image(), random_mask()
    undecided = make_token(backbone, 5, 'site')
    with pytest.raises(ValueError, match=r'(?s)5'), undecided.masked(mask):
        backbone(img)
    undecided.remove()
    token = make_token(backbone, 5, 'site', layout='blc+12')
    before = backbone(img).detach()
    with token.masked(mask):
        after = backbone(img).detach()
    assert torch.equal(after[:, :12], before[:, :12])
    expected = placed_by_hand(to_bhwc(before, 'blc', 12, 8), mask, token)
    np.testing.assert_allclose(to_bhwc(after, 'blc', 12, 8).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    'layout, channels, size, batch, told',
    [
        ('bchw', 7, (32, 48), 2, r'\(2, 5, 8, 12\) with channels=7'),
        ('bhwc', 7, (32, 48), 2, r'\(2, 8, 12, 5\) with channels=7'),
        ('blc', 7, (32, 48), 2, r'\(2, 96, 5\) with channels=7'),
        ('blc', 5, (32, 40), 2, r'\(2, 80, 5\).*4, 6'),  # tokens that form no grid like the mask's
        ('blc', 5, (32, 48), 3, r'\(2, 96, 5\)'),  # windows have more rows than there are images
        ('pooled', 5, (32, 48), 2, r'\(2, 5\)'),
    ],
)
def test_feature_that_fits_no_layout_is_named_with_its_shape(layout, channels, size, batch, told):
    backbone = toys.LastSite(layout, channels=5)
    token = make_token(backbone, channels, 'site')
    with pytest.raises(ValueError, match=told), token.masked(random_mask(batch=batch)):
        backbone(image(size))


@pytest.mark.parametrize('layout', ['bchw', 'bhwc', 'blc'])
@pytest.mark.parametrize('grid', [(16, 24), (9, 12), (8, 13)], ids=str)
def test_mask_grid_finer_than_the_feature_is_refused(layout, grid):
    backbone = toys.LastSite(layout, channels=5)
    token = make_token(backbone, 5, 'site', layout=layout)
    if layout == 'blc' and grid != (16, 24):
        return  # tokens have the shape of the mask grid, or none
    with pytest.raises(ValueError, match=r"finer than the 8 x 12 feature at 'site'.*patch_size"):
        with token.masked(random_mask(grid)):
            backbone(image())


def test_site_that_returns_several_features_is_named():
    token = make_token(backbone := toys.LastSite('list'), 6, 'site')
    with pytest.raises(ValueError, match="'site' is a list, no tensor"), token.masked(random_mask()):
        backbone(image())


@pytest.mark.parametrize(
    'wrong',
    [dict(mode='multiply'), dict(layout='hwc'), dict(channels=0), dict(channels=-3)],
    ids=str,
)
def test_wrong_argument_is_named(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf'{name}.*{value}'):
        MaskToken(**{**dict(channels=6, site='stage1'), **wrong})


def test_gate_on_replaced_features_is_refused():
    with pytest.raises(ValueError, match='gate_init'):
        MaskToken(channels=6, site='stage1', mode='replace', gate_init=1e-6)


def test_unknown_argument_is_refused():
    with pytest.raises(TypeError, match='where'):
        MaskToken(channels=6, site='stage1', where='layer3')


# ---- gradient ------------------------------------------------------------------------------------


@pytest.mark.parametrize('mode', MODES, ids=['add', 'replace', 'gated'])
def test_gradient_is_the_sum_over_hidden_positions(mode):
    backbone = toys.LastSite('bchw', channels=5)
    token = make_token(backbone, 5, 'site', **mode)
    img, mask = image(), random_mask()
    feat = backbone(img).detach()
    weights = torch.randn(feat.shape, generator=torch.Generator().manual_seed(2))
    with token.masked(mask):
        (backbone(img) * weights).sum().backward()
    hidden = torch.tensor(reference.resize_mask(mask.numpy(), feat.shape[2:]))[:, None]
    torch.testing.assert_close(token.token.grad, (weights * hidden).sum((0, 2, 3)), atol=1e-4, rtol=1e-5)
    if token.gate is not None:
        expected = (weights * feat * hidden).sum((0, 2, 3))
        torch.testing.assert_close(token.gate.grad, expected, atol=1e-4, rtol=1e-5)


def test_replaced_features_get_no_gradient():
    backbone = toys.LastSite('bchw', channels=5)
    token = make_token(backbone, 5, 'site', mode='replace')
    with token.masked(torch.ones(2, 4, 6)):
        backbone(image()).sum().backward()
    assert (backbone.body.weight.grad == 0).all()


@pytest.mark.parametrize('mode', MODES, ids=['add', 'replace', 'gated'])
@pytest.mark.parametrize('reentrant', [True, False])
def test_gradient_under_checkpointing_inside_the_backbone(reentrant, mode):
    plain = toys.Conv()
    kept = toys.Conv(reentrant=reentrant)
    kept.load_state_dict(plain.state_dict())
    img, mask = image(), random_mask()
    expected = toys.token_gradient(plain, make_token(plain, 6, 'stage1', **mode), img, mask)
    got = toys.token_gradient(kept, make_token(kept, 6, 'stage1', **mode), img, mask)
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


@pytest.mark.parametrize('site', ['layer3', 'layer3.1', 'layer2', 'layer4.0'])
@pytest.mark.filterwarnings('ignore:.*use_reentrant')
def test_gradient_in_a_resnet_with_cp(site):
    torch.manual_seed(0)
    plain = resnet18()
    kept = resnet18(with_cp=True)
    kept.load_state_dict(plain.state_dict())
    channels = {'2': 32, '3': 64, '4': 128}[site[5]]
    img, mask = image((64, 96)), random_mask((2, 3))
    expected = toys.token_gradient(plain, make_token(plain, channels, site), img, mask)
    got = toys.token_gradient(kept, make_token(kept, channels, site), img, mask)
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


@pytest.mark.parametrize('mode', [dict(), dict(gate_init=0.5)], ids=['add', 'gated'])
def test_compiled_backbone(mode):
    torch.compiler.reset()
    backbone = toys.Conv()
    token = make_token(backbone, 6, 'stage1', **mode)
    # fullgraph: the hooks break no graph
    compiled = torch.compile(backbone, backend='eager', fullgraph=True)
    img = image()
    bare = backbone(img)[0].detach()
    for seed in (0, 1):
        mask = random_mask(seed=seed)
        torch.testing.assert_close(compiled(img)[0], bare)
        with token.masked(mask):
            expected_feat = backbone(img)[0]
        with token.masked(mask):
            torch.testing.assert_close(compiled(img)[0], expected_feat)
        expected = toys.token_gradient(backbone, token, img, mask)
        assert expected[0].abs().max() > 0
        torch.testing.assert_close(toys.token_gradient(compiled, token, img, mask), expected)
    torch.testing.assert_close(compiled(img)[0], bare)


# ---- copies and precision ------------------------------------------------------------------------


def test_copy_of_token_and_backbone_is_wired_to_itself():
    pair = nn.ModuleDict(dict(backbone=toys.LastSite()))
    pair['token'] = make_token(pair['backbone'], 6, 'site')
    img, mask = image(), random_mask()
    bare = pair['backbone'](img)
    with pair['token'].masked(mask):
        before = pair['backbone'](img)

    twin = copy.deepcopy(pair)
    with torch.no_grad():
        twin['token'].token += 1
    with twin['token'].masked(mask):
        changed = twin['backbone'](img)
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
    assert not toys.hooks(twin['backbone'])
    assert toys.hooks(pair['backbone'])


def test_copied_backbone_alone_still_runs():
    backbone = toys.LastSite()
    make_token(backbone, 6, 'site')
    img = image()
    assert torch.equal(copy.deepcopy(backbone)(img), backbone(img))


@pytest.mark.parametrize('mode', MODES, ids=['add', 'replace', 'gated'])
@pytest.mark.parametrize('layout', ['bchw', 'bhwc', 'blc'])
def test_dtype_of_the_feature_survives(layout, mode):
    backbone = toys.LastSite(layout, channels=5)
    token = make_token(backbone, 5, 'site', **mode)
    img, mask = image(), random_mask()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        plain = backbone(img)
        with token.masked(mask):
            masked = backbone(img)
    assert plain.dtype == torch.bfloat16
    assert masked.dtype == torch.bfloat16
    masked.float().sum().backward()
    assert token.token.grad.dtype == torch.float32
