# CIFAR-10 at 32 pixels. The paper has no CIFAR, so mask patch, batch, lr and epochs are ours.
_base_ = [
    './models/a2mim_any.py',
    './datasets/imagenet_mim.py',
    './schedules/adamw_cosine.py',
    './default_runtime.py',
]

data_root = 'data/cifar10/'  # train/ and test/ with image files, nested or not
image_size = 32

model = dict(mask=dict(patch_size=4))  # 8 x 8 patches
data_preprocessor = dict(mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7])  # of the training images
pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(type='a2mim_mm.RandomResizedCrop', scale=image_size, crop_ratio_range=(0.67, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='a2mim_mm.MaskSeed'),
    dict(type='PackInputs', algorithm_keys=('mask_seed', 'unreadable')),
]
train_dataloader = dict(batch_size=512, dataset=dict(data_root=data_root + 'train', pipeline=pipeline))
test_dataloader = dict(batch_size=512, dataset=dict(data_root=data_root + 'test', pipeline=pipeline))

# The paper's lr for 2,048 images, times the square root of 512 / 2048.
optim_wrapper = dict(optimizer=dict(lr=6e-4))
auto_scale_lr = dict(base_batch_size=512)
train_cfg = dict(max_epochs=1000)
default_hooks = dict(checkpoint=dict(interval=20))
custom_hooks = [
    dict(type='a2mim_mm.ThroughputHook'),
    dict(type='a2mim_mm.UnreadableImagesHook'),
    dict(type='a2mim_mm.ReconstructionHook', interval=100),
]
