# ViT-B, 100 epochs, as the authors' released code fine-tunes it (github.com/Westlake-AI/openmixup,
# configs/benchmarks/classification/imagenet/vit_base_p16_swin_ft_simmim_*). It differs from Table A2: ten
# times the lr, warm-up of 20 epochs, random erasing, averaged weights, and LayerScale, as in the pre-training
# (official/a2mim_vit-b.py). Their average also warms up, and their backbone has mix_repeat=2: not so here.
_base_ = '../vit-b_a2mim_ft-100e.py'

model = dict(backbone=dict(layer_scale_init_value=0.1))

train_pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
    ),
    dict(
        type='RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=[103.53, 116.28, 123.675],
        fill_std=[57.375, 57.12, 58.395],
    ),
    dict(type='PackInputs', algorithm_keys=('unreadable',)),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(optimizer=dict(lr=2.5e-3 * 1024 / 256))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=20, eta_min=1e-6, convert_to_iter_based=True),
]
custom_hooks = [
    dict(type='a2mim_mm.ThroughputHook'),
    dict(type='a2mim_mm.UnreadableImagesHook'),
    dict(type='a2mim_mm.ClassesHook'),
    dict(type='EMAHook', momentum=4e-5, priority='ABOVE_NORMAL'),  # each step keeps 0.99996 of the average
]
