# ResNet-50, fine-tuned on the photos of clothes: 160 pixels, 50 epochs, for a GPU. See finetune_resnet18.py.
_base_ = './finetune_resnet18.py'

image_size = 160

model = dict(backbone=dict(depth=50), head=dict(in_channels=2048))
train_pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(
        type='RandomResizedCrop',
        scale=image_size,
        crop_ratio_range=(0.35, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs', algorithm_keys=('unreadable',)),
]
test_pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(type='ResizeEdge', scale=183, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=image_size),  # crop ratio 0.875
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=32, num_workers=14, pin_memory=True, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=7, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(num_workers=7, dataset=dict(pipeline=test_pipeline))

auto_scale_lr = dict(base_batch_size=32)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=5, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=50, val_interval=5)
default_hooks = dict(checkpoint=dict(interval=10))
