"""Classification: the numbers of every recipe are those named, and models, optimisers and labels act so.

The numbers are typed from the paper (Section 5.2, Appendix A.1, Table A2); what it leaves open from what it
follows: linear probes from MoCo (ResNet) and MAE (ViT), LAMB from You et al. 2020, Algorithm 2. Those of
configs/classification/official are typed from the authors' released code (github.com/Westlake-AI/openmixup).
"""

import copy
import math
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import mmengine.hooks
import numpy as np
import pytest
import torch
from mmcv.cnn.bricks import DropPath
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, PARAM_SCHEDULERS, init_default_scope
from mmpretrain.structures import DataSample
from PIL import Image
from torch import nn
from torch.nn import functional as F

from a2mim_mm.checkpoints.backbone import PretrainedWeights
from a2mim_mm.engine.machine import fit_to_cpu
from a2mim_mm.models import A2MIM
from a2mim_mm.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
FOLDER = CONFIGS / 'classification'
STARTED = sorted(path for path in (*FOLDER.glob('*.py'), *FOLDER.glob('official/*.py')))
TWINNED = [path for path in STARTED if path.stem != 'custom_folders']
SCRATCH = sorted(FOLDER.glob('scratch/*.py'))
CLOTHING = sorted(CONFIGS.parent.glob('projects/clothing/configs/*.py'))
GPUS = 8

# Table A2. Crop ratio 0.95 is 224 of 236 pixels, 0.875 is 224 of 256.
DEIT = SimpleNamespace(
    epochs=100,
    train_size=224,
    resized=256,
    crop_ratio=0.875,
    optimizer='AdamW',
    base_lr=2.5e-4,
    weight_decay=0.05,
    batch=1024,
    smoothing=0.1,
    drop_path=0.1,
    clip=5.0,
    rand_augment=(9, 0.5),
    mixup=0.8,
    loss='CE',
)
RSB_A2 = SimpleNamespace(
    epochs=300,
    train_size=224,
    resized=236,
    crop_ratio=0.95,
    optimizer='Lamb',
    base_lr=1.5e-3,
    weight_decay=0.02,
    batch=2048,
    smoothing=0.0,
    drop_path=0.05,
    clip=None,
    rand_augment=(7, 0.5),
    mixup=0.1,
    loss='BCE',
)
RSB_A3 = SimpleNamespace(
    **dict(vars(RSB_A2), epochs=100, train_size=160, base_lr=1e-3, drop_path=0.0, rand_augment=(6, 0.5))
)
TEST_SIZE, WARMUP, CUTMIX = 224, 5, 1.0  # the same in all columns
LAYER_DECAY = 0.65  # Section 5.2
RECIPES = {
    'vit-s_a2mim_ft-100e': DEIT,
    'vit-b_a2mim_ft-100e': DEIT,
    'r50_a2mim_rsb-a2_ft-300e': RSB_A2,
    'r50_a2mim_rsb-a3_ft-100e': RSB_A3,
}
VITS = [name for name in RECIPES if name.startswith('vit')]
RESNETS = [name for name in RECIPES if name.startswith('r50')]
# Width of the features, layers (or residual blocks), parameters of the backbone in millions
BACKBONES = {'vit-s': (384, 12, 21.7), 'vit-b': (768, 12, 85.8), 'r50': (2048, 16, 23.5)}
SPECIAL = ('cls_token', 'pos_embed', 'relative_position_bias_table')


def find(name: str) -> Path:
    (path,) = FOLDER.rglob(f'{name}.py')
    return path


def read(path: Path | str) -> Config:
    cfg = Config.fromfile(path if isinstance(path, Path) else find(path))
    fit_to_cpu(cfg)
    init_default_scope(cfg.default_scope)
    return cfg


def build(cfg: Config) -> nn.Module:
    init_default_scope(cfg.default_scope)
    return MODELS.build(copy.deepcopy(dict(cfg.model, data_preprocessor=cfg.data_preprocessor)))


def as_dict(path: Path) -> dict:
    return Config.fromfile(path).to_dict()


def step_of(loader: dict, kind: str) -> dict:
    (step,) = (step for step in loader.dataset.pipeline if step.type == kind)
    return step


def drop_rates(model: nn.Module) -> list[float]:
    """Rates of the model's DropPath modules, those above zero."""
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    return sorted(rate for rate in rates if rate > 0)


def lr_of_iterations(cfg: Config, epoch_length: int) -> list[float]:
    """The lr of each iteration of the training, as the Runner's hook steps the schedules."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    schedules = cfg.param_scheduler if isinstance(cfg.param_scheduler, list) else [cfg.param_scheduler]
    built = [
        PARAM_SCHEDULERS.build(
            copy.deepcopy(one), default_args=dict(optimizer=optimizer, epoch_length=epoch_length)
        )
        for one in schedules
    ]
    lrs = []
    for iteration in range(1, cfg.train_cfg.max_epochs * epoch_length + 1):
        lrs.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for schedule in built:
            if not schedule.by_epoch or iteration % epoch_length == 0:
                schedule.step()
    return lrs


def assert_warmup_and_cosine(cfg: Config, peak: float, warmup: int, epochs: int) -> None:
    """Linear warm-up from next to nothing, then half a cosine to next to nothing, iteration by iteration."""
    length, eta_min = 3, cfg.param_scheduler[1].eta_min
    lrs = lr_of_iterations(cfg, length)
    assert len(lrs) == epochs * length
    begin, decay = warmup * length, (epochs - warmup) * length
    rise = lrs[:begin]
    assert np.diff(rise) == pytest.approx([(peak - rise[0]) / (begin - 1)] * (begin - 1))
    assert rise[0] <= 1e-3 * peak and rise[-1] == pytest.approx(peak)
    assert 0 <= eta_min <= 1e-3 * peak
    cosine = [eta_min + (peak - eta_min) * (1 + math.cos(math.pi * t / decay)) / 2 for t in range(decay)]
    assert lrs[begin:] == pytest.approx(cosine, rel=1e-6, abs=1e-9 * peak)


def assert_batch(cfg: Config, batch: int) -> None:
    assert GPUS * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == batch
    assert cfg.auto_scale_lr.enable and 'accumulative_counts' not in cfg.optim_wrapper


def settings_of(model: nn.Module, cfg: Config) -> dict[str, tuple[float, float]]:
    """(lr, weight decay) of each parameter, by its name."""
    name_of = {id(param): name for name, param in model.named_parameters()}
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    return {name_of[id(p)]: (group['lr'], group['weight_decay']) for group in groups for p in group['params']}


@lru_cache(maxsize=1)
def pretraining_weights(name: str) -> dict[str, torch.Tensor]:
    """The backbone's state dict of a pre-training config's model."""
    model = build(read(CONFIGS / f'{name}.py'))
    assert type(model) is A2MIM
    return model.backbone.state_dict()


def source_of(path: Path) -> str:
    """The pre-training that a config starts from."""
    if path in CLOTHING:
        return f'../projects/clothing/configs/pretrain_{path.stem.split("_")[1]}'
    size = 'r50' if path.stem == 'custom_folders' else path.stem.split('_')[0]
    return f'selfsup/{"official/" if path.parent.name == "official" else ""}a2mim_{size}'


# 1. Numbers


@pytest.mark.parametrize('name', RECIPES)
def test_sizes_and_augmentation(name):
    recipe, cfg = RECIPES[name], read(name)
    train, val = cfg.train_dataloader, cfg.val_dataloader
    assert step_of(train, 'RandomResizedCrop').scale == recipe.train_size
    resize, crop = step_of(val, 'ResizeEdge'), step_of(val, 'CenterCrop')
    assert (resize.edge, resize.scale, crop.crop_size) == ('short', recipe.resized, TEST_SIZE)
    assert crop.crop_size / resize.scale == pytest.approx(recipe.crop_ratio, abs=1e-3)
    assert cfg.test_dataloader == val

    augment = step_of(train, 'RandAugment')
    assert (augment.magnitude_level, augment.magnitude_std) == recipe.rand_augment
    assert (augment.policies, augment.num_policies, augment.total_level) == ('timm_increasing', 2, 10)
    assert step_of(train, 'RandomFlip').prob == 0.5
    # Nothing but what the table names
    assert [step.type for step in train.dataset.pipeline] == [
        'a2mim_mm.LoadImage',
        'RandomResizedCrop',
        'RandomFlip',
        'RandAugment',
        'PackInputs',
    ]


@pytest.mark.parametrize('name', RECIPES)
def test_optimizer_and_schedule(name):
    recipe, cfg = RECIPES[name], read(name)
    optimizer, peak = cfg.optim_wrapper.optimizer, recipe.base_lr * recipe.batch / 256
    assert (optimizer.type, optimizer.weight_decay) == (recipe.optimizer, recipe.weight_decay)
    assert optimizer.lr == pytest.approx(peak)
    assert_batch(cfg, recipe.batch)

    assert cfg.train_cfg.max_epochs == recipe.epochs
    warmup, cosine = cfg.param_scheduler
    assert (warmup.type, warmup.begin, warmup.end) == ('LinearLR', 0, WARMUP)
    assert (cosine.type, cosine.begin, cosine.end) == ('CosineAnnealingLR', WARMUP, recipe.epochs)
    assert cosine.T_max == recipe.epochs - WARMUP
    assert all(schedule.by_epoch and schedule.convert_to_iter_based for schedule in cfg.param_scheduler)
    assert_warmup_and_cosine(cfg, peak, WARMUP, recipe.epochs)


@pytest.mark.parametrize('name', RECIPES)
def test_regularisation(name):
    recipe, cfg = RECIPES[name], read(name)
    model = build(cfg)
    augments = model.data_preprocessor.batch_augments
    assert augments.probs is None  # evenly
    assert [(type(one).__name__, one.alpha) for one in augments.augments] == [
        ('Mixup', recipe.mixup),
        ('CutMix', CUTMIX),
    ]

    loss = model.head.loss_module
    if recipe.loss == 'BCE':
        assert type(loss).__name__ == 'CrossEntropyLoss' and loss.use_sigmoid
    else:
        assert (type(loss).__name__, loss.mode) == ('LabelSmoothLoss', 'original')
    assert getattr(loss, 'label_smooth_val', 0.0) == recipe.smoothing

    width, layers, millions = BACKBONES[name.split('_')[0]]
    expected = np.linspace(0, recipe.drop_path, layers)
    modules_a_layer = 2 if name in VITS else 1  # attention and feed-forward; a residual block
    assert drop_rates(model.backbone) == pytest.approx(
        sorted([*expected[expected > 0]] * modules_a_layer), abs=1e-7
    )

    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert (wrapper.clip_grad_kwargs or {}).get('max_norm') == recipe.clip
    if recipe.clip is None:
        assert wrapper.optimizer.defaults['max_grad_norm'] >= 1e9  # Lamb's own clipping
    else:
        assert wrapper.clip_grad_kwargs.get('norm_type', 2) == 2

    assert model.head.fc.in_features == width
    plain = [p.numel() for n, p in model.backbone.named_parameters() if 'relative_position' not in n]
    assert sum(plain) / 1e6 == pytest.approx(millions, abs=0.2)


@pytest.mark.parametrize('path', [*TWINNED, *CLOTHING], ids=lambda path: path.stem)
def test_a_stopped_training_can_go_on(path):
    assert read(path).default_hooks.checkpoint.get('save_optimizer', True)


def test_rsb_lr_differs_in_the_lr_alone():
    name, sibling = 'r50_a2mim_rsb-a2_ft-300e', 'r50_a2mim_rsb-a2_ft-300e_rsb-lr'
    table, rsb = as_dict(find(name)), as_dict(find(sibling))
    assert rsb['optim_wrapper']['optimizer'].pop('lr') == 0.005
    assert table['optim_wrapper']['optimizer'].pop('lr') == pytest.approx(0.012)
    assert rsb == table
    for text in (find(name).read_text(), find(sibling).read_text()):
        comment = ' '.join(line for line in text.splitlines() if line.startswith('#'))
        assert '0.005' in comment and '0.012' in comment


# 2. ViT: the features, and the lr of each layer


@pytest.mark.parametrize('name', VITS)
def test_features_are_the_normalised_mean_of_the_patches(name):
    torch.manual_seed(0)
    cfg = read(name)
    cfg.model.backbone.arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    assert cfg.model.backbone.out_type == 'avg_featmap' and not cfg.model.backbone.final_norm
    assert tuple(cfg.fresh_params) == ('ln2.',)
    backbone = MODELS.build(cfg.model.backbone).eval()
    nn.init.normal_(backbone.ln2.weight)
    nn.init.normal_(backbone.ln2.bias)
    seen = []
    backbone.layers[-1].register_forward_hook(lambda *args: seen.append(args[-1]))
    with torch.no_grad():
        (feat,) = backbone(torch.randn(2, 3, 64, 64))
        mean = seen[0][:, 1:].mean(1)  # without cls
        expected = F.layer_norm(mean, (16,), backbone.ln2.weight, backbone.ln2.bias, eps=1e-6)
    torch.testing.assert_close(feat, expected)


@pytest.mark.parametrize('name', VITS)
def test_lr_of_every_parameter_of_a_vit(name):
    cfg = read(name)
    with torch.device('meta'):  # names and shapes are enough
        model = MODELS.build(copy.deepcopy(cfg.model))
    settings, last, depths = settings_of(model, cfg), 13, set()
    assert set(settings) == {param_name for param_name, _ in model.named_parameters()}
    assert {'backbone.ln2.weight', 'head.fc.weight', 'backbone.cls_token'} < set(settings)
    for param_name, param in model.named_parameters():
        part, *rest = param_name.split('.')
        depth = last  # head and ln2
        if rest[0] in ('patch_embed', 'cls_token', 'pos_embed'):
            depth = 0
        elif rest[0] == 'layers':
            depth = int(rest[1]) + 1
        depths.add((part, depth))
        decays = param.ndim > 1 and not param_name.endswith(SPECIAL)
        expected = (2.5e-4 * 1024 / 256 * LAYER_DECAY ** (last - depth), 0.05 if decays else 0)
        assert settings[param_name] == pytest.approx(expected, rel=1e-9), param_name
    assert depths == {('backbone', depth) for depth in range(last + 1)} | {('head', last)}


# 3. LAMB


@pytest.mark.parametrize('name', RESNETS)
def test_lamb_is_that_of_its_paper(name):
    """Algorithm 2 by hand. Gradients of norms far above 1, another one each step: clipping would show."""
    recipe, cfg = RECIPES[name], read(name)
    lr, eps = recipe.base_lr * recipe.batch / 256, 1e-6
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double()
    with torch.no_grad():
        for param in model.parameters():
            param.copy_(torch.randn(param.shape, generator=generator, dtype=torch.float64))
    weights = [param.detach().clone() for param in model.parameters()]
    m, v = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    for step, scale in enumerate((100.0, 3.0, 5000.0, 40.0), start=1):
        grads = [scale * torch.randn(w.shape, generator=generator, dtype=torch.float64) for w in weights]
        for param, grad in zip(model.parameters(), grads, strict=True):
            param.grad = grad.clone()
        wrapper.step()
        for i, (w, grad) in enumerate(zip(weights, grads, strict=True)):
            m[i] = 0.9 * m[i] + 0.1 * grad
            v[i] = 0.999 * v[i] + 0.001 * grad**2
            update = m[i] / (1 - 0.9**step) / ((v[i] / (1 - 0.999**step)).sqrt() + eps)
            if w.ndim > 1:  # norms and biases: no decay, no adaptation
                update = update + recipe.weight_decay * w
                update = update * w.norm() / update.norm()
            weights[i] = w - lr * update
        for (param_name, param), expected in zip(model.named_parameters(), weights, strict=True):
            torch.testing.assert_close(param.detach(), expected, rtol=1e-9, atol=1e-12, msg=param_name)


@pytest.mark.parametrize('name', RESNETS)
def test_resnet_has_one_rate_and_no_decay_on_norms(name):
    cfg = read(name)
    model = build(cfg)
    settings, params = settings_of(model, cfg), dict(model.named_parameters())
    assert set(settings) == set(params)
    assert {lr for lr, _ in settings.values()} == {cfg.optim_wrapper.optimizer.lr}
    assert {n for n, (_, decay) in settings.items() if decay} == {n for n, p in params.items() if p.ndim > 1}


# 4. Pipelines


@pytest.fixture(scope='module')
def two_classes(tmp_path_factory):
    """One image a class, of noise, lying and upright, with sides of 2 : 3."""
    folder, rng = tmp_path_factory.mktemp('classes'), np.random.default_rng(0)
    for name, shape in (('lying', (400, 600, 3)), ('upright', (600, 400, 3))):
        (folder / name).mkdir()
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name / 'noise.png')
    return folder


def build_dataset(loader: dict, folder: Path):
    return DATASETS.build(dict(copy.deepcopy(loader.dataset), data_root=str(folder)))


TESTED = {
    **{name: recipe.resized for name, recipe in RECIPES.items()},
    'vit-b_a2mim_linear-90e': 256,
    'vit-s_a2mim_linear-90e': 256,
    'r50_a2mim_linear-100e': 256,
}


@pytest.mark.parametrize('name', TESTED)
def test_images_are_resized_and_cropped_in_the_middle(name, two_classes):
    short, cfg = TESTED[name], read(name)
    dataset = build_dataset(cfg.test_dataloader, two_classes)
    for label, (height, width) in enumerate([(short, short * 3 // 2), (short * 3 // 2, short)]):
        results, imgs = dataset.get_data_info(label), {}
        for step in dataset.pipeline.transforms:
            results = step(results)
            if 'img' in results:
                imgs[type(step).__name__] = results['img'].copy()
        resized, cropped = imgs['ResizeEdge'], imgs['CenterCrop']
        assert resized.shape == (height, width, 3)
        assert cropped.shape == (224, 224, 3)
        top, left = (height - 224) // 2, (width - 224) // 2  # all differences are even
        assert np.array_equal(cropped, resized[top : top + 224, left : left + 224])
        assert results['inputs'].shape == (3, 224, 224)
        assert results['data_samples'].gt_label.tolist() == [label]


@pytest.mark.parametrize('name', [*TESTED, *(path.stem for path in FOLDER.glob('official/*.py'))])
def test_training_images_have_their_size(name, two_classes):
    dataset = build_dataset(read(name).train_dataloader, two_classes)
    size = 160 if 'rsb-a3' in name else 224
    assert {tuple(dataset[i]['inputs'].shape) for i in range(2)} == {(3, size, size)}
    assert [dataset[i]['data_samples'].gt_label.item() for i in range(2)] == [0, 1]


# 5. Mixed labels, and the losses on them

LABELS = [3, 1, 7, 999, 0, 42]
MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])  # ImageNet's, RGB


def mix(preprocessor: nn.Module, augment: object, seed: int):
    """Images before mixing, and images and scores after it."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    preprocessor.batch_augments.augments = [augment]
    bgr_b3hw = torch.randint(0, 256, (len(LABELS), 3, 8, 8), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(label) for label in LABELS]
    batch = preprocessor(dict(inputs=bgr_b3hw.clone(), data_samples=samples), training=True)
    plain = (bgr_b3hw.flip(1) - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
    return plain, batch['inputs'], torch.stack([sample.gt_score for sample in batch['data_samples']])


def assert_mixed(kind: str, img: torch.Tensor, own: torch.Tensor, other: torch.Tensor, lam: float) -> None:
    if kind == 'Mixup':
        torch.testing.assert_close(img, lam * own + (1 - lam) * other, rtol=0, atol=1e-4)
        return
    from_own, from_other = (torch.isclose(img, source, atol=1e-4).all(0) for source in (own, other))
    pasted = ~from_own
    assert from_other[pasted].all()
    assert torch.equal(pasted, pasted.any(1, keepdim=True) & pasted.any(0, keepdim=True))  # a rectangle
    assert pasted.float().mean().item() == pytest.approx(1 - lam, abs=1e-6)


@pytest.mark.parametrize('name', [VITS[0], RESNETS[1]])
def test_labels_are_mixed_as_the_images_are(name):
    cfg = read(name)
    cfg.model.backbone = dict(type='ResNet', depth=18)  # what matters is the classifier's preprocessor
    cfg.model.pop('neck', None)
    preprocessor = build(cfg).data_preprocessor
    for augment in preprocessor.batch_augments.augments:
        lams = []
        for seed in range(40):
            plain, mixed, scores = mix(preprocessor, augment, seed)
            assert scores.shape == (len(LABELS), 1000)
            assert scores.sum(1).tolist() == pytest.approx([1] * len(LABELS), abs=1e-6)
            shares = []
            for i, label in enumerate(LABELS):
                rest = scores[i].clone()
                rest[label] = 0
                assert rest.count_nonzero() <= 1
                partner = LABELS.index(rest.argmax().item()) if rest.any() else i
                lam = 1 - rest.max().item()
                shares += [lam] * (partner != i)
                assert_mixed(type(augment).__name__, mixed[i], plain[i], plain[partner], lam)
            lams += shares[:1]
            assert shares == pytest.approx(shares[:1] * len(shares), abs=1e-6)  # one lam a batch
        assert any(0.1 < lam < 0.9 for lam in lams)
    _, _, scores = mix(preprocessor, lambda imgs, scores: (imgs, scores), seed=0)
    assert scores.argmax(1).tolist() == LABELS


@pytest.mark.parametrize('name', RECIPES)
def test_loss_on_mixed_labels(name):
    recipe, cfg = RECIPES[name], read(name)
    generator = torch.Generator().manual_seed(0)
    head = MODELS.build(cfg.model.head)
    nn.init.normal_(head.fc.weight, std=0.1, generator=generator)
    feat_bd = torch.randn(3, head.fc.in_features, generator=generator)
    target_bk = torch.zeros(3, 1000)
    for row, (label, partner, lam) in enumerate([(3, 999, 0.3), (0, 1, 0.75), (42, 7, 1.0)]):
        target_bk[row, label] += lam
        target_bk[row, partner] += 1 - lam
    samples = [DataSample().set_gt_score(score) for score in target_bk]
    loss = head.loss((feat_bd,), samples)['loss'].item()

    logit_bk, target_bk = head((feat_bd,)).double(), target_bk.double()
    if recipe.loss == 'BCE':  # summed over the classes, averaged over the images
        prob_bk = 1 / (1 + (-logit_bk).exp())
        terms_bk = target_bk * prob_bk.log() + (1 - target_bk) * (1 - prob_bk).log()
    else:
        smooth_bk = (1 - recipe.smoothing) * target_bk + recipe.smoothing / 1000
        terms_bk = smooth_bk * (logit_bk - logit_bk.exp().sum(1, keepdim=True).log())
    assert loss == pytest.approx(-terms_bk.sum(1).mean().item(), rel=1e-5)


# 6. Linear probes

PROBES = ['r50_a2mim_linear-100e', 'vit-s_a2mim_linear-90e', 'vit-b_a2mim_linear-90e']
CLOTHING_PROBES = [path for path in CLOTHING if path.stem.startswith('linear')]


def test_numbers_of_mocos_probe():
    cfg = read(PROBES[0])
    optimizer = dict(type='SGD', lr=30.0, momentum=0.9, weight_decay=0.0)
    assert cfg.optim_wrapper.optimizer == optimizer
    assert 'clip_grad' not in cfg.optim_wrapper
    assert_batch(cfg, 256)
    assert cfg.train_cfg.max_epochs == 100
    lrs = lr_of_iterations(cfg, epoch_length=2)
    assert lrs == pytest.approx([30.0] * 120 + [3.0] * 40 + [0.3] * 40)
    assert cfg.model.backbone == dict(type='ResNet', depth=50, frozen_stages=4)


@pytest.mark.parametrize('name', PROBES[1:])
def test_numbers_of_maes_probe(name):
    cfg = read(name)
    lr = 0.1 * 16384 / 256
    assert cfg.optim_wrapper.optimizer == dict(
        type='LARS', lr=pytest.approx(lr), momentum=0.9, weight_decay=0.0
    )
    assert 'clip_grad' not in cfg.optim_wrapper
    assert_batch(cfg, 16384)
    assert cfg.train_cfg.max_epochs == 90
    assert cfg.param_scheduler[1].eta_min == 0
    assert_warmup_and_cosine(cfg, lr, warmup=10, epochs=90)
    assert (cfg.model.backbone.out_type, cfg.model.backbone.frozen_stages) == ('featmap', 12)
    with torch.device('meta'):
        model = MODELS.build(copy.deepcopy(cfg.model))
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    (bias,) = (group for group in groups if group['params'][0] is model.head.fc.bias)
    (weight,) = (group for group in groups if group['params'][0] is model.head.fc.weight)
    assert bias['lars_exclude'] and not weight.get('lars_exclude')  # MAE adapts matrices alone
    (norm,) = (module for module in model.neck.modules() if isinstance(module, nn.BatchNorm1d))
    assert not norm.affine and norm.track_running_stats and norm.num_features == model.head.fc.in_features


@pytest.mark.parametrize('name', PROBES)
def test_probes_are_plain(name):
    """Crop and flip alone, hard labels, cross-entropy, no drop path."""
    cfg = read(name)
    assert [step.type for step in cfg.train_dataloader.dataset.pipeline] == [
        'a2mim_mm.LoadImage',
        'RandomResizedCrop',
        'RandomFlip',
        'PackInputs',
    ]
    assert step_of(cfg.train_dataloader, 'RandomResizedCrop').scale == 224
    with torch.device('meta' if name in PROBES[1:] else 'cpu'):
        model = build(cfg)
    assert model.data_preprocessor.batch_augments is None and drop_rates(model) == []
    loss = model.head.loss_module
    assert (type(loss).__name__, loss.use_sigmoid, loss.use_soft) == ('CrossEntropyLoss', False, False)


@pytest.mark.parametrize('path', [*map(find, PROBES), *CLOTHING_PROBES], ids=lambda path: path.stem)
def test_probes_train_the_classifier_alone(path):
    """Three steps: parameters and BatchNorm's statistics of the backbone are the same bits as before."""
    torch.manual_seed(0)
    cfg = read(path)
    model = build(cfg).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    held = {id(p) for group in wrapper.optimizer.param_groups for p in group['params'] if p.requires_grad}
    assert held == {id(p) for p in model.head.parameters()}
    before = copy.deepcopy(model.state_dict())
    for _ in range(3):
        samples = [DataSample().set_gt_label(label) for label in range(4)]
        images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
        losses = model.train_step(dict(inputs=images, data_samples=samples), wrapper)
        assert torch.isfinite(losses['loss'])
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    expected = {'head.fc.weight', 'head.fc.bias'}
    if any('running_mean' in name for name in before if name.startswith('neck')):
        expected |= {name for name in before if name.startswith('neck')}  # buffers: it has no parameters
        assert [*model.neck.parameters()] == []
    assert changed == expected


# 7. Twins from scratch


def twin_of(path: Path) -> str:
    return path.stem.replace('a2mim', 'scratch').replace('_ft-', '_')


@pytest.mark.parametrize('path', TWINNED, ids=lambda path: path.stem)
def test_twin_differs_in_the_start_alone(path):
    twin = FOLDER / 'scratch' / f'{twin_of(path)}.py'
    pretrained, scratch = as_dict(path), as_dict(twin)
    assert (pretrained.pop('start'), scratch.pop('start')) == ('pretrained', 'scratch')
    assert scratch == pretrained


def test_every_recipe_has_one_twin():
    assert len(TWINNED) == 13
    assert sorted(map(twin_of, TWINNED)) == [path.stem for path in SCRATCH]


def test_stems_name_work_dirs():
    stems = [path.stem for path in FOLDER.rglob('*.py')]
    assert sorted(set(stems)) == sorted(stems)
    assert {path.relative_to(FOLDER).parts[0] for path in FOLDER.glob('*/*.py')} == {'official', 'scratch'}
    assert len(stems) == len(STARTED) + len(SCRATCH)
    covered = {*RECIPES, *PROBES, 'r50_a2mim_rsb-a2_ft-300e_rsb-lr', 'custom_folders'}
    assert {path.stem for path in FOLDER.glob('*.py')} == covered


# 8. The authors' released code

OFFICIAL_VITS = {  # Width, layers, heads, epochs, momentum of the averaged weights
    'vit-b_a2mim_ft-100e_official': (768, 12, 12, 100, 4e-5),
    'vit-s_a2mim_ft-100e_official': (768, 8, 8, 100, None),
    'vit-s_a2mim_ft-200e_official': (768, 8, 8, 200, None),
}


def ema_momentum(cfg: Config) -> float | None:
    """Of the built hook, by what it does to a weight: two steps, the first of which copies."""
    kwargs = [{key: value for key, value in hook.items() if key != 'priority'} for hook in cfg.custom_hooks]
    hooks = [HOOKS.build(one) for one in kwargs]  # the Runner takes the priority out, too
    emas = [hook for hook in hooks if isinstance(hook, mmengine.hooks.EMAHook)]
    assert len(emas) == sum('EMA' in hook.type for hook in cfg.custom_hooks)
    if not emas:
        return None
    (ema,), runner = emas, SimpleNamespace(model=nn.Linear(1, 1, bias=False).double(), iter=0)
    ema.before_run(runner)
    for value in (0.0, 1.0):
        nn.init.constant_(runner.model.weight, value)
        ema.after_train_iter(runner, batch_idx=0)
    return ema.ema_model.module.weight.item()


def test_hooks_of_the_recipes():
    """Those of the official files repeat the list of the recipes, and add at most one."""
    hooks = as_dict(find('vit-b_a2mim_ft-100e'))['custom_hooks']
    for name in RECIPES:
        assert as_dict(find(name))['custom_hooks'] == hooks
        assert ema_momentum(read(name)) is None
    for path in FOLDER.glob('official/*.py'):
        assert [hook for hook in as_dict(path)['custom_hooks'] if hook['type'] != 'EMAHook'] == hooks


@pytest.mark.parametrize('name', OFFICIAL_VITS)
def test_official_vits(name):
    width, layers, heads, epochs, momentum = OFFICIAL_VITS[name]
    cfg = read(name)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-2)
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == LAYER_DECAY
    assert cfg.optim_wrapper.clip_grad.max_norm == 5.0
    assert_batch(cfg, 1024)
    assert_warmup_and_cosine(cfg, 1e-2, warmup=20, epochs=epochs)
    assert ema_momentum(cfg) == (momentum and pytest.approx(momentum))

    erasing = step_of(cfg.train_dataloader, 'RandomErasing')
    assert (erasing.erase_prob, erasing.mode) == (0.25, 'rand')
    assert erasing.fill_color == pytest.approx(MEAN.flip(0).tolist())  # BGR, in front of the normalisation
    assert erasing.fill_std == pytest.approx(STD.flip(0).tolist())
    recipe = as_dict(find('vit-b_a2mim_ft-100e'))['train_dataloader']['dataset']['pipeline']
    steps = cfg.train_dataloader.dataset.to_dict()['pipeline']
    assert [step for step in steps if step['type'] != 'RandomErasing'] == recipe

    with torch.device('meta'):
        backbone = MODELS.build(copy.deepcopy(cfg.model)).backbone
    assert (backbone.embed_dims, len(backbone.layers), backbone.layers[0].attn.num_heads) == (
        width,
        layers,
        heads,
    )
    assert drop_rates(backbone)[-1] == pytest.approx(0.1)


@pytest.mark.parametrize('name', OFFICIAL_VITS)
def test_layer_scale_of_official_vits(name):
    cfg = read(name)
    cfg.model.backbone.arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    layers = MODELS.build(cfg.model.backbone).layers
    for layer in layers:
        for scale in (layer.attn.gamma1, layer.ffn.gamma2):
            assert scale.weight.tolist() == pytest.approx([0.1] * 16)


def test_official_resnet():
    name = 'r50_a2mim_rsb-a2_ft-300e_official'
    raw, recipe = as_dict(find(name)), as_dict(find('r50_a2mim_rsb-a2_ft-300e'))
    assert raw['model']['backbone'].pop('norm_cfg') == dict(type='SyncBN')
    sampler = raw['train_dataloader'].pop('sampler')
    assert sampler == dict(type='a2mim_mm.KeyedRepeatAugSampler', shuffle=True)  # three versions by default
    assert raw['optim_wrapper']['optimizer'].pop('lr') == 0.005
    assert raw['optim_wrapper']['optimizer'].pop('max_grad_norm') == 1.0
    assert ema_momentum(read(name)) == pytest.approx(1e-4)
    # and nothing else
    recipe['train_dataloader'].pop('sampler')
    for key in ('lr', 'max_grad_norm'):
        recipe['optim_wrapper']['optimizer'].pop(key)
    raw['custom_hooks'] = recipe['custom_hooks']
    assert raw == recipe


def test_official_a3():
    raw = as_dict(find('r50_a2mim_rsb-a3_ft-100e_official'))
    recipe = as_dict(find('r50_a2mim_rsb-a3_ft-100e'))
    assert raw['model']['backbone'].pop('norm_cfg') == dict(type='SyncBN')
    assert raw['optim_wrapper']['optimizer'].pop('max_grad_norm') == 1.0
    recipe['optim_wrapper']['optimizer'].pop('max_grad_norm')
    assert raw == recipe


# 9. Every config builds, and a pre-trained backbone fills it


@pytest.mark.parametrize('path', [*STARTED, *CLOTHING], ids=lambda path: path.stem)
def test_builds_and_takes_the_whole_pretrained_backbone(path):
    """The twins from scratch have the same models; see their test."""
    cfg = read(path)
    if path.stem.startswith('pretrain'):
        assert pretraining_weights(f'../projects/clothing/configs/{path.stem}')
        return
    model = build(cfg).eval()
    assert cfg.start == 'pretrained'
    weights = pretraining_weights(source_of(path))
    with torch.no_grad():
        for tensor in model.backbone.state_dict().values():
            tensor.fill_(math.nan if tensor.is_floating_point() else -1)
    fresh = tuple(cfg.get('fresh_params', ()))
    table = PretrainedWeights('pretraining', weights, (), ('backbone',), fresh).load_into(model)
    unfilled = set()
    for name, tensor in model.backbone.state_dict().items():
        if name in weights:
            assert torch.equal(tensor, weights[name]), name
        else:
            unfilled.add(name)
    mean_pooled = 'vit' in path.stem and 'linear' not in path.stem
    assert unfilled == ({'ln2.weight', 'ln2.bias'} if mean_pooled else set())
    assert 'resampled                 0' in table

    for name in unfilled:
        nn.init.ones_(model.backbone.get_parameter(name))
    with torch.no_grad():
        score = model(torch.randn(1, 3, 64, 64), mode='tensor')
    classes = 1000 if path not in CLOTHING and path.stem != 'custom_folders' else 10
    assert score.shape == (1, classes) and torch.isfinite(score).all()
    assert model.data_preprocessor.num_classes == classes


# 10. Own folders


def leaves(node: object) -> list:
    if isinstance(node, dict):
        return [leaf for child in node.values() for leaf in leaves(child)]
    if isinstance(node, (list, tuple)):
        return [leaf for child in node for leaf in leaves(child)]
    return [node]


@pytest.mark.parametrize(
    'base', [path for path in TWINNED if path.parent == FOLDER], ids=lambda path: path.stem
)
def test_own_folders_need_two_variables(base, tmp_path):
    """Also on top of "any other file of this folder"."""
    text = (FOLDER / 'custom_folders.py').read_text()
    for old, new in {
        "data_root = 'data/my_classes'\n": "data_root = '/photos'\n",
        'num_classes = 10\n': 'num_classes = 7\n',
        "'./r50_a2mim_rsb-a3_ft-100e.py'": repr(str(base)),
    }.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = tmp_path / 'own.py'
    path.write_text(text)
    cfg = read(path)

    head = MODELS.build(copy.deepcopy(cfg.model.head))
    assert head.fc.out_features == cfg.data_preprocessor.num_classes == 7
    loaders = [cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader]
    assert [loader.dataset.data_root for loader in loaders] == ['/photos/train', '/photos/val', '/photos/val']
    used = leaves([cfg.model.to_dict(), cfg.data_preprocessor.to_dict(), *(one.to_dict() for one in loaders)])
    assert sum(isinstance(leaf, str) and '/' in leaf for leaf in used) == 3
    assert 1000 not in used and used.count(7) >= 2
    assert cfg.val_evaluator == cfg.test_evaluator == dict(type='Accuracy', topk=(1,))
    own, recipe = cfg.to_dict(), as_dict(base)
    for part in ('optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'custom_hooks', 'start'):
        assert own[part] == recipe[part]
