# A2MIM with ResNet-18 on photos of nuclei and of clothes, 96 pixels: minutes on a CPU.
_base_ = [
    '../../../configs/_base_/models/a2mim_resnet50.py',
    '../../../configs/_base_/datasets/imagenet_mim.py',
    '../../../configs/_base_/schedules/adamw_cosine.py',
    '../../../configs/_base_/default_runtime.py',
]

data_root = 'data/pretraining_photos'
image_size = 96

model = dict(
    backbone=dict(depth=18),
    neck=dict(in_channels=512),
    mask=dict(patch_size=16),
    mask_token=dict(channels=256),
)
pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(
        type='a2mim_mm.RandomResizedCrop',
        scale=image_size,
        crop_ratio_range=(0.2, 1.0),  # down to about 100 pixels of a photo, where nuclei are visible
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='a2mim_mm.MaskSeed'),
    dict(type='PackInputs', algorithm_keys=('mask_seed', 'unreadable')),
]
train_dataloader = dict(
    batch_size=32, num_workers=1, pin_memory=False, dataset=dict(data_root=data_root, pipeline=pipeline)
)
test_dataloader = dict(batch_size=32, num_workers=1, dataset=dict(data_root=data_root, pipeline=pipeline))

optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=5.0))
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, eta_min=1e-5, convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=20))
custom_hooks = [
    dict(type='a2mim_mm.ThroughputHook'),
    dict(type='a2mim_mm.UnreadableImagesHook'),
    dict(type='a2mim_mm.ReconstructionHook', interval=1),
]
