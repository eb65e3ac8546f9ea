"""Classification: the numbers of every recipe are those named, and models, optimisers and labels act so.

The numbers are typed from the paper (Section 5.2, Appendix A.1, Table A2); what it leaves open from what it
follows: linear probes from MoCo (ResNet) and MAE (ViT), LAMB from You et al. 2020, Algorithm 2. Those of
configs/classification/official are typed from the authors' released code (github.com/Westlake-AI/openmixup).
Rates, warm-up and epochs: see test_schedules.py. What other files change of a recipe: see test_files.py.
"""

import copy
from collections import namedtuple

import numpy as np
import pytest
import torch
from helpers.configs import (
    PROJECTS,
    SECTIONS,
    as_written,
    build,
    decays,
    names,
    outline,
    rates_of,
    read,
    steps_of,
)
from helpers.own_data import write_own_config
from mmcv.cnn.bricks import DropPath
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import TRANSFORMS
from mmpretrain.structures import DataSample
from torch import nn
from torch.nn import functional as F

from a2mim_mm.registry import MODELS

FOLDER = 'classification/'
VIT, RESNET = f'{FOLDER}vit-b_a2mim_ft-100e', f'{FOLDER}r50_a2mim_rsb-a3_ft-100e'
VIT_PROBE, RESNET_PROBE = f'{FOLDER}vit-b_a2mim_linear-90e', f'{FOLDER}r50_a2mim_linear-100e'
OFFICIAL_VIT = f'{FOLDER}official/vit-b_a2mim_ft-100e_official'
CLOTHING = [name for name in PROJECTS if name.startswith(('clothing/finetune', 'clothing/linear'))]
PROBES = [RESNET_PROBE, VIT_PROBE.replace('vit-b', 'vit-s'), *(name for name in CLOTHING if 'linear' in name)]
MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])  # ImageNet's, RGB

Recipe = namedtuple('Recipe', 'batch size resized augment mixup smoothing drop_path clip optimizer decay')
RECIPES = {  # Table A2. Crop ratio 0.95 is 224 of 236 pixels, 0.875 is 224 of 256. RSB: binary cross-entropy
    VIT: Recipe(1024, 224, 256, (9, 0.5), 0.8, 0.1, 0.1, dict(max_norm=5.0), 'AdamW', 0.05),
    RESNET: Recipe(2048, 160, 236, (6, 0.5), 0.1, None, 0.0, None, 'Lamb', 0.02),
}
# Width of the features, layers (or residual blocks), parameters of the backbone in millions
BACKBONES = {VIT: (768, 12, 85.8), RESNET: (2048, 16, 23.5)}


def assert_batch(cfg: Config, batch: int) -> None:
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == batch
    assert cfg.auto_scale_lr.enable and 'accumulative_counts' not in cfg.optim_wrapper


@pytest.mark.parametrize('name', RECIPES)
def test_numbers_of_images_and_optimizer(name):
    recipe, cfg = RECIPES[name], read(name)
    train, val = steps_of(cfg.train_dataloader), steps_of(cfg.val_dataloader)
    # Nothing but what the table names
    assert [*train] == ['LoadImage', 'RandomResizedCrop', 'RandomFlip', 'RandAugment', 'PackInputs']
    assert (train['RandomResizedCrop'].scale, train['RandomFlip'].prob) == (recipe.size, 0.5)
    augment = TRANSFORMS.build(train['RandAugment'])
    assert (augment.magnitude_level, augment.magnitude_std) == recipe.augment
    assert (augment.num_policies, augment.total_level) == (2, 10)
    assert train['RandAugment'].policies == 'timm_increasing'
    assert (val['ResizeEdge'].scale, val['CenterCrop'].crop_size) == (recipe.resized, 224)
    assert cfg.test_dataloader == cfg.val_dataloader
    assert_batch(cfg, recipe.batch)
    wrapper = cfg.optim_wrapper
    assert (wrapper.optimizer.type, wrapper.optimizer.weight_decay) == (recipe.optimizer, recipe.decay)
    assert wrapper.get('clip_grad') == recipe.clip


@pytest.mark.parametrize('name', RECIPES)
def test_numbers_of_the_model(name):
    recipe, model = RECIPES[name], outline(read(name))
    width, layers, millions = BACKBONES[name]
    augments = model.data_preprocessor.batch_augments
    assert augments.probs is None  # evenly
    kinds = [(type(one).__name__, one.alpha) for one in augments.augments]
    assert kinds == [('Mixup', recipe.mixup), ('CutMix', 1.0)]
    expected = np.linspace(0, recipe.drop_path, layers).repeat(2 if name == VIT else 1)  # modules a layer
    assert drop_rates(model) == pytest.approx([rate for rate in expected if rate > 0], abs=1e-7)
    assert model.head.fc.in_features == width
    plain = [p.numel() for key, p in model.backbone.named_parameters() if 'relative_position' not in key]
    assert sum(plain) / 1e6 == pytest.approx(millions, abs=0.2)


def drop_rates(model: nn.Module) -> list[float]:
    """Rates of the model's DropPath modules, those above zero."""
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    return sorted(rate for rate in rates if rate > 0)


def small_backbone(name: str) -> nn.Module:
    cfg = read(name).model.backbone
    cfg.arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    return MODELS.build(cfg)


def test_features_are_the_normalised_mean_of_the_patches():
    torch.manual_seed(0)
    backbone = small_backbone(VIT).eval()
    nn.init.normal_(backbone.ln2.weight)
    nn.init.normal_(backbone.ln2.bias)
    seen = []
    backbone.layers[-1].register_forward_hook(lambda *args: seen.append(args[-1]))
    (feat,) = backbone(torch.randn(2, 3, 64, 64))
    mean = seen[0][:, 1:].mean(1)  # without cls
    expected = F.layer_norm(mean, (16,), backbone.ln2.weight, backbone.ln2.bias, eps=1e-6)
    torch.testing.assert_close(feat, expected)


def test_rates_of_a_vit():
    cfg = read(VIT)
    model = outline(cfg)
    for name, rate in rates_of(cfg, model).items():
        part = name.removeprefix('backbone.').removeprefix('layers.').split('.')[0]
        first = part in ('patch_embed', 'cls_token', 'pos_embed')
        depth = int(part) + 1 if part.isdigit() else 0 if first else 13  # head and ln2 are last
        expected = (1e-3 * 0.65 ** (13 - depth), 0.05 if decays(model, name) else 0)  # Section 5.2
        assert rate == pytest.approx(expected, rel=1e-9), name


def test_resnet_has_one_rate_and_no_decay_on_norms():
    cfg = read(RESNET)
    model = outline(cfg)
    for name, rate in rates_of(cfg, model).items():
        assert rate == (8e-3, 0.02 if decays(model, name) else 0), name


def test_lamb_is_that_of_its_paper():
    """Algorithm 2 by hand. Gradients of norms far above 1, another one each step: clipping would show."""
    generator = torch.Generator().manual_seed(0)

    def draw(like):
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double()
    params = [*model.parameters()]
    for param in params:
        param.data = draw(param)
    wrapper = build_optim_wrapper(model, read(RESNET).optim_wrapper)
    expected = [param.detach().clone() for param in params]
    m, v = ([torch.zeros_like(param) for param in params] for _ in range(2))
    for step, scale in enumerate((100.0, 3.0, 5000.0, 40.0), start=1):
        for i, param in enumerate(params):
            param.grad = grad = scale * draw(param)
            m[i] = 0.9 * m[i] + 0.1 * grad
            v[i] = 0.999 * v[i] + 0.001 * grad**2
            update = m[i] / (1 - 0.9**step) / ((v[i] / (1 - 0.999**step)).sqrt() + 1e-6)
            if param.ndim > 1:  # norms and biases: no decay, no adaptation
                update = update + 0.02 * expected[i]
                update = update * expected[i].norm() / update.norm()
            expected[i] = expected[i] - 8e-3 * update
        wrapper.step()
        torch.testing.assert_close([p.detach() for p in params], expected, rtol=1e-9, atol=1e-12)


def test_labels_are_mixed_as_the_images_are():
    """Images of one colour: an image's mean is the mixture of colours that its label says, by either way."""
    cfg = read(VIT)
    cfg.model.backbone = dict(type='ResNet', depth=18)  # what matters is the classifier's preprocessor
    preprocessor = build(cfg).data_preprocessor
    labels, mixtures = [3, 1, 7, 999, 0, 42], []
    bgr_b3 = torch.randint(0, 256, (6, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for seed in range(40):
        torch.manual_seed(seed)
        np.random.seed(seed)
        samples = [DataSample().set_gt_label(label) for label in labels]
        inputs = bgr_b3[..., None, None].expand(-1, -1, 8, 8)
        batch = preprocessor(dict(inputs=inputs, data_samples=samples), training=True)
        score_bk = torch.stack([sample.gt_score for sample in batch['data_samples']])
        rgb_b3 = batch['inputs'].mean((2, 3)) * STD + MEAN
        torch.testing.assert_close(rgb_b3, score_bk[:, labels] @ bgr_b3.flip(1).float(), rtol=0, atol=1e-3)
        assert score_bk.shape == (6, 1000)
        assert score_bk.sum(1).tolist() == pytest.approx([1] * 6)
        mixtures.append(batch['inputs'].flatten(2).std(2).max() > 0)  # cut, not blended
    assert 10 < sum(mixtures) < 30


@pytest.mark.parametrize('name', RECIPES)
def test_loss_on_mixed_labels(name):
    generator, head = torch.Generator().manual_seed(0), MODELS.build(read(name).model.head)
    nn.init.normal_(head.fc.weight, std=0.1, generator=generator)
    feat_bd = torch.randn(3, head.fc.in_features, generator=generator)
    target_bk = torch.zeros(3, 1000)
    for row, (label, partner, lam) in enumerate([(3, 999, 0.3), (0, 1, 0.75), (42, 7, 1.0)]):
        target_bk[row, [label, partner]] = torch.tensor([lam, 1 - lam])
    loss = head.loss((feat_bd,), [DataSample().set_gt_score(score) for score in target_bk])['loss']
    logit_bk, smoothing = head((feat_bd,)), RECIPES[name].smoothing
    if smoothing is None:  # summed over the classes, averaged over the images
        expected = F.binary_cross_entropy_with_logits(logit_bk, target_bk, reduction='sum') / 3
    else:
        expected = F.cross_entropy(logit_bk, target_bk, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ('name', 'batch', 'optimizer'),
    [
        (RESNET_PROBE, 256, dict(type='SGD', lr=30.0, momentum=0.9, weight_decay=0.0)),
        (VIT_PROBE, 16384, dict(type='LARS', lr=6.4, momentum=0.9, weight_decay=0.0)),
    ],
)
def test_numbers_of_probes(name, batch, optimizer):
    """Crop and flip alone, hard labels, cross-entropy, no drop path, no clipping."""
    cfg = read(name)
    model, train, test = outline(cfg), steps_of(cfg.train_dataloader), steps_of(cfg.test_dataloader)
    assert [*train] == ['LoadImage', 'RandomResizedCrop', 'RandomFlip', 'PackInputs']
    assert (train['RandomResizedCrop'].scale, test['ResizeEdge'].scale) == (224, 256)
    assert cfg.optim_wrapper.optimizer == optimizer and 'clip_grad' not in cfg.optim_wrapper
    assert_batch(cfg, batch)
    assert model.data_preprocessor.batch_augments is None and drop_rates(model) == []
    loss = model.head.loss_module
    assert (type(loss).__name__, loss.use_sigmoid, loss.use_soft) == ('CrossEntropyLoss', False, False)


def test_classifier_of_maes_probe():
    """A BatchNorm without affine parameters in front; LARS adapts matrices alone."""
    cfg = read(VIT_PROBE)
    model = outline(cfg)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    plain = [group['params'] for group in groups if group.get('lars_exclude')]
    assert plain == [[model.head.fc.bias]]
    (norm,) = (module for module in model.neck.modules() if isinstance(module, nn.BatchNorm1d))
    assert not norm.affine and norm.track_running_stats and norm.num_features == 768


@pytest.mark.parametrize('name', PROBES)
def test_probes_train_the_classifier_alone(name):
    """Three steps: parameters and BatchNorm's statistics of the backbone are the same bits as before."""
    torch.manual_seed(0)
    cfg = read(name)
    model = build(cfg).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = copy.deepcopy(model.state_dict())
    for _ in range(3):
        samples = [DataSample().set_gt_label(label) for label in range(4)]
        images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
        losses = model.train_step(dict(inputs=images, data_samples=samples), wrapper)
        assert torch.isfinite(losses['loss'])
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {'head.fc.weight', 'head.fc.bias', *(key for key in before if key.startswith('neck'))}


def test_official_vits():
    cfg, recipe = as_written(OFFICIAL_VIT), as_written(VIT)
    erasing = steps_of(cfg.train_dataloader)['RandomErasing']
    assert (erasing.erase_prob, erasing.mode) == (0.25, 'rand')
    assert erasing.fill_color == pytest.approx(MEAN.flip(0).tolist())  # BGR, in front of the normalisation
    assert erasing.fill_std == pytest.approx(STD.flip(0).tolist())
    cfg.train_dataloader.dataset.pipeline.remove(erasing)
    recipe.model.backbone.layer_scale_init_value = 0.1
    recipe.optim_wrapper.optimizer.lr = 1e-2
    recipe.custom_hooks.append(dict(type='EMAHook', momentum=4e-5, priority='ABOVE_NORMAL'))
    for part in recipe.keys() & SECTIONS - {'param_scheduler'}:
        assert cfg[part] == recipe[part], part
    layers = small_backbone(OFFICIAL_VIT).layers
    assert layers[1].attn.gamma1.weight.tolist() == pytest.approx([0.1] * 16)
    small = outline(read(f'{FOLDER}official/vit-s_a2mim_ft-100e_official')).backbone
    assert (small.embed_dims, len(small.layers), small.layers[0].attn.num_heads) == (768, 8, 8)


def source_of(name: str) -> str:
    """The pre-training that a config starts from."""
    if name in CLOTHING:
        return f'clothing/pretrain_{name.split("_")[1]}'
    size = 'r50' if name.endswith('custom_folders') else name.split('/')[-1].split('_')[0]
    return f'selfsup/{"official/" if "/official/" in name else ""}a2mim_{size}'


@pytest.mark.parametrize('name', [*names('classification/**/*'), *CLOTHING])
def test_takes_the_backbone_of_its_pretraining(name):
    """By names and shapes: all but the norm of a mean-pooled ViT; left over is the norm of each token."""
    cfg = read(name)
    model, source = outline(cfg), outline(read(source_of(name)))
    own, theirs = (
        {key: value.shape for key, value in one.backbone.state_dict().items()} for one in (model, source)
    )
    mean_pooled = 'vit' in name and 'linear' not in name
    assert own.keys() - theirs.keys() == ({'ln2.weight', 'ln2.bias'} if mean_pooled else set())
    assert theirs.keys() - own.keys() == ({'ln1.weight', 'ln1.bias'} if mean_pooled else set())
    assert cfg.get('fresh_params') == (('ln2.',) if mean_pooled else None)
    assert all(theirs[key] == shape for key, shape in own.items() if key in theirs)

    classes = 10 if name in CLOTHING or name.endswith('custom_folders') else 1000
    assert model.data_preprocessor.num_classes == classes
    size = steps_of(cfg.test_dataloader)['CenterCrop'].crop_size
    assert model.eval()(torch.empty(1, 3, size, size, device='meta'), mode='tensor').shape == (1, classes)
    assert cfg.start == 'pretrained'
    assert cfg.default_hooks.checkpoint.get('save_optimizer', True)  # a stopped training can go on


@pytest.mark.parametrize('base', [name for name in names('classification/*') if 'a2mim' in name])
def test_own_folders_need_two_variables(base, tmp_path):
    """Also on top of "any other file of this folder"."""
    template, base_file = f'{FOLDER}custom_folders.py', f'{base.removeprefix(FOLDER)}.py'
    variables = dict(data_root='/photos', num_classes=7)
    cfg = Config.fromfile(write_own_config(tmp_path / 'own.py', template, base_file, **variables))
    loaders = [cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader]
    assert [loader.dataset.data_root for loader in loaders] == ['/photos/train', '/photos/val', '/photos/val']
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == 7
    used = str([cfg.model, cfg.data_preprocessor, *loaders])
    assert 'imagenet' not in used and '1000' not in used
    assert cfg.val_evaluator == cfg.test_evaluator == dict(type='Accuracy', topk=(1,))
    recipe = as_written(base)
    for part in ('optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'custom_hooks', 'start'):
        assert cfg[part] == recipe[part]
