# A2MIM with ResNet-18 on 3,068 photos of clothes: 64 pixels, mask patches of 16 (a grid of 4 x 4), minutes on
# a CPU. The lr is ours: the paper's lr would be 2e-5 at batch 32.
_base_ = [
    '../../../configs/_base_/models/a2mim_resnet50.py',
    '../../../configs/_base_/datasets/imagenet_mim.py',
    '../../../configs/_base_/schedules/adamw_cosine.py',
    '../../../configs/_base_/default_runtime.py',
]

image_size = 64

model = dict(
    backbone=dict(depth=18),
    neck=dict(in_channels=512),
    mask=dict(patch_size=16),
    mask_token=dict(channels=256),
)
pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(
        type='RandomResizedCrop',
        scale=image_size,
        crop_ratio_range=(0.67, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='a2mim_mm.MaskSeed'),
    dict(type='PackInputs', algorithm_keys=('mask_seed', 'unreadable')),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    pin_memory=False,
    dataset=dict(data_root='data/clothing/train', pipeline=pipeline),
)
test_dataloader = dict(
    batch_size=32, num_workers=1, dataset=dict(data_root='data/clothing/test', pipeline=pipeline)
)

optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=5.0))
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=15)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, eta_min=1e-5, convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=20))
custom_hooks = [
    dict(type='a2mim_mm.ThroughputHook'),
    dict(type='a2mim_mm.UnreadableImagesHook'),
    dict(type='a2mim_mm.ReconstructionHook', interval=5),
]
