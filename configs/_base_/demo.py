# What the demonstrations share: a dozen photos, seen many times, and small steps that a CPU takes quickly.
# They learn these photos by heart. This does not replace pre-training, but it shows every part at work.
_base_ = ['./datasets/imagenet_mim.py', './schedules/adamw_cosine.py', './default_runtime.py']

data_root = 'data/sample_photos'
image_size = 64

# Crops hold nearly the whole centre square and are never flipped: a dozen pictures can be learnt in minutes.
pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(type='CenterCrop', crop_size=256),
    dict(type='a2mim_mm.RandomResizedCrop', scale=image_size, crop_ratio_range=(0.8, 1.0)),
    dict(type='a2mim_mm.MaskSeed'),
    dict(type='PackInputs', algorithm_keys=('mask_seed', 'unreadable')),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    pin_memory=False,
    dataset=dict(data_root=data_root, pipeline=pipeline, repeats=40),  # 12 photos x 40 = 30 steps an epoch
)
test_dataloader = dict(
    batch_size=12,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, pipeline=pipeline),
)

optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=5.0))
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=2, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=30)

default_hooks = dict(logger=dict(interval=30), checkpoint=dict(max_keep_ckpts=2))
custom_hooks = [
    dict(type='a2mim_mm.ThroughputHook'),
    dict(type='a2mim_mm.UnreadableImagesHook'),
    dict(type='a2mim_mm.ReconstructionHook', images=data_root, interval=10),
]
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(vis_backends=vis_backends)
