"""What holds for the files: one that is another with a few changes has these changes, and no more."""

import re

import pytest
from helpers.configs import CONFIGS, PROJECTS, as_written, changes, load_config, names, path_of

# A file, the one it is based on, and all settings that differ; RSB A2's are Table A2's.
DERIVED = """
selfsup/a2mim_r50_100e from selfsup/a2mim_r50
    train_cfg.max_epochs = 100
selfsup/custom_folder from selfsup/a2mim_r50
    train_dataloader.dataset.data_root = 'data/my_images'
    test_dataloader.dataset.data_root = 'data/my_images'
selfsup/continue_from from selfsup/a2mim_vit-b
    start = 'pretrained'
    optim_wrapper.constructor = 'a2mim_mm.LayerDecayOptimWrapperConstructor'
    optim_wrapper.optimizer.lr = 0.0002
    optim_wrapper.paramwise_cfg.layer_decay_rate = 0.85
    param_scheduler.0.end = 5
    param_scheduler.1.begin = 5
    train_cfg.max_epochs = 100
selfsup/a2mim_vit-s from selfsup/a2mim_vit-b
    model.backbone.arch = 'deit-small'
    model.neck.in_channels = 384
    model.mask_token.site = 'layers.4'
    model.mask_token.channels = 384
    train_cfg.max_epochs = 300
selfsup/official/a2mim_vit-s from selfsup/official/a2mim_vit-b
    model.backbone.arch = 'small'
    train_dataloader.batch_size = 256
    optim_wrapper.accumulative_counts = 1
selfsup/official/a2mim_r101 from selfsup/official/a2mim_r50
    model.backbone.depth = 101
    model.head.loss_freq.reweight = False
    model.head.loss_freq.focal_beta = 0.2
    model.head.loss_freq.alpha = None
    model.head.loss_freq.squared = None
    model.head.loss_freq.batch_spectrum = None
    model.head.loss_freq.log_weight = None
    model.head.loss_freq.normalize = None
    model.head.lambda_freq = 0.1
selfsup/official/a2mim_r152 from selfsup/official/a2mim_r50
    model.backbone.depth = 152
    model.head.lambda_freq = 0.0
selfsup/official/a2mim_r200 from selfsup/official/a2mim_r152
    model.backbone.type = 'a2mim_mm.ResNet'
    model.backbone.depth = 200
selfsup/official/a2mim_vit-l from selfsup/official/a2mim_vit-b
    model.backbone.arch = 'large'
    model.neck.in_channels = 1024
    model.mask_token.channels = 1024
selfsup/official/a2mim_convnext-t from selfsup/official/a2mim_r50
    model.backbone.type = 'ConvNeXt'
    model.backbone.arch = 'tiny'
    model.backbone.gap_before_final_norm = False
    model.backbone.depth = None
    model.backbone.norm_cfg.type = None
    model.backbone.zero_init_residual = None
    model.neck.in_channels = 768
    model.head.lambda_freq = 0.0
    model.mask_token.site = 'downsample_layers.3'
    model.mask_token.channels = 768
    model.mask_token.init_std = 0.0
    amp_dtype = 'float16'
    optim_wrapper.paramwise_cfg.custom_keys.mask_token.lr_mult = 0.1
    optim_wrapper.paramwise_cfg.custom_keys.mask_token.decay_mult = 0.0
    optim_wrapper.paramwise_cfg.custom_keys.mask_token.token.lr_mult = None
    optim_wrapper.paramwise_cfg.custom_keys.mask_token.token.decay_mult = None
selfsup/official/a2mim_convnext-s from selfsup/official/a2mim_convnext-t
    model.backbone.arch = 'small'
selfsup/official/a2mim_convnext-b from selfsup/official/a2mim_convnext-t
    model.backbone.arch = 'base'
    model.neck.in_channels = 1024
    model.mask_token.channels = 1024
selfsup/official/a2mim_r50_100e from selfsup/official/a2mim_r50
    train_cfg.max_epochs = 100
    optim_wrapper.paramwise_cfg.custom_keys.mask_token.lr_mult = 0.1
    optim_wrapper.paramwise_cfg.custom_keys.mask_token.decay_mult = 0.0
classification/r50_a2mim_rsb-a2_ft-300e from classification/r50_a2mim_rsb-a3_ft-100e
    train_cfg.max_epochs = 300
    model.backbone.drop_path_rate = 0.05
    train_dataloader.dataset.pipeline.1.scale = 224
    train_dataloader.dataset.pipeline.3.magnitude_level = 7
    optim_wrapper.optimizer.lr = 0.012
classification/r50_a2mim_rsb-a2_ft-300e_rsb-lr from classification/r50_a2mim_rsb-a2_ft-300e
    optim_wrapper.optimizer.lr = 0.005
classification/official/r50_a2mim_rsb-a3_ft-100e_official from classification/r50_a2mim_rsb-a3_ft-100e
    model.backbone.norm_cfg.type = 'SyncBN'
    optim_wrapper.optimizer.max_grad_norm = 1.0
classification/official/r50_a2mim_rsb-a2_ft-300e_official from classification/r50_a2mim_rsb-a2_ft-300e
    model.backbone.norm_cfg.type = 'SyncBN'
    train_dataloader.sampler.type = 'a2mim_mm.KeyedRepeatAugSampler'
    optim_wrapper.optimizer.lr = 0.005
    optim_wrapper.optimizer.max_grad_norm = 1.0
    custom_hooks.3.type = 'EMAHook'
    custom_hooks.3.momentum = 0.0001
    custom_hooks.3.priority = 'ABOVE_NORMAL'
classification/official/vit-s_a2mim_ft-100e_official from classification/official/vit-b_a2mim_ft-100e_official
    model.backbone.arch = 'small'
    custom_hooks.3.type = None
    custom_hooks.3.momentum = None
    custom_hooks.3.priority = None
classification/official/vit-s_a2mim_ft-200e_official from classification/official/vit-s_a2mim_ft-100e_official
    train_cfg.max_epochs = 200
classification/vit-s_a2mim_ft-100e from classification/vit-b_a2mim_ft-100e
    model.backbone.arch = 'deit-small'
    model.head.in_channels = 384
classification/vit-s_a2mim_linear-90e from classification/vit-b_a2mim_linear-90e
    model.backbone.arch = 'deit-small'
    model.head.in_channels = 384
    model.neck.1.input_features = 384
mmdet/mask-rcnn_a2mim-vit-s-fpn_1x_coco from mmdet/mask-rcnn_a2mim-vit-b-fpn_1x_coco
    model.backbone.arch = 'deit-small'
    model.neck.0.channels = 384
    model.neck.1.in_channels = [384, 384, 384, 384]
mmseg/upernet_a2mim-vit-s_100e_ade20k-512x512 from mmseg/upernet_a2mim-vit-b_100e_ade20k-512x512
    model.backbone.arch = 'deit-small'
    model.neck.channels = 384
    model.decode_head.channels = 384
    model.decode_head.in_channels = [384, 384, 384, 384]
    model.auxiliary_head.in_channels = 384
"""
CASES = {case.split('\n')[0]: case.split('\n    ')[1:] for case in re.split(r'\n(?=\S)', DERIVED.strip())}


@pytest.mark.parametrize('case', CASES)
def test_differs_from_another_in_this_alone(case):
    found = changes(*case.split(' from '))
    assert {f'{key} = {value!r}' for key, value in found.items()} == {*CASES[case]}


def test_start_from_scratch_changes_the_start_alone():
    for name in names('classification/**/*'):
        recipe = as_written(name).to_dict()
        scratch = load_config(str(path_of(name)), ['start=scratch']).to_dict()
        assert (recipe.pop('start'), scratch.pop('start')) == ('pretrained', 'scratch')
        assert scratch == recipe, name


def test_stems_name_work_dirs():
    stems = [name.rpartition('/')[2] for name in names('classification/**/*')]
    assert len(set(stems)) == len(stems) > 10


def test_no_config_inherits_from_mmseg():
    """mmengine would ask for another mmsegmentation, to be installed over the one that is there."""
    paths = [*CONFIGS.rglob('*.py'), *PROJECTS.values()]
    assert len(paths) > 40
    for path in paths:
        code = [line.partition('#')[0] for line in path.read_text().splitlines()]
        assert not any('mmseg::' in line for line in code), path
