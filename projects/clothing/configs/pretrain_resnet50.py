# A2MIM with ResNet-50 on the photos of clothes: 160 pixels, mask patches of 32 (a grid of 5 x 5), 400 epochs,
# for a GPU.
_base_ = './pretrain_resnet18.py'

image_size = 160

model = dict(
    backbone=dict(depth=50),
    neck=dict(in_channels=2048),
    mask=dict(patch_size=32),
    mask_token=dict(channels=1024),
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
train_dataloader = dict(batch_size=128, num_workers=14, pin_memory=True, dataset=dict(pipeline=pipeline))
test_dataloader = dict(batch_size=128, num_workers=14, dataset=dict(pipeline=pipeline))

auto_scale_lr = dict(base_batch_size=128)
train_cfg = dict(max_epochs=400)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=20, eta_min=1e-5, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=20, max_keep_ckpts=1))
custom_hooks = [
    dict(type='a2mim_mm.ThroughputHook'),
    dict(type='a2mim_mm.UnreadableImagesHook'),
    dict(type='a2mim_mm.ReconstructionHook', interval=100),
]
