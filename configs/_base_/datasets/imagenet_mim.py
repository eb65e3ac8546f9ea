# ImageNet-1K without its labels, for masked image modelling at 224 pixels.
data_root = 'data/imagenet/'
image_size = 224  # Table A1
crop_scale = (0.67, 1.0)  # Appendix A.1; share of the image's area

data_preprocessor = dict(
    type='SelfSupDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

# Appendix A.1 names RandomResizedCrop only. The flip is SimMIM's, whose settings the paper follows.
pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(type='a2mim_mm.RandomResizedCrop', scale=image_size, crop_ratio_range=crop_scale),
    dict(type='RandomFlip', prob=0.5),
    dict(type='a2mim_mm.MaskSeed'),
    dict(type='PackInputs', algorithm_keys=('mask_seed', 'unreadable')),
]

train_dataloader = dict(
    batch_size=256,  # x 8 GPUs = 2048 (Table A1)
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='a2mim_mm.KeyedSampler', shuffle=True),
    dataset=dict(type='a2mim_mm.UnlabelledImages', data_root=data_root + 'train', pipeline=pipeline),
)

# tools/test.py measures the losses on images outside the training set, always with the same crops and masks.
test_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='a2mim_mm.KeyedSampler', shuffle=False),
    dataset=dict(type='a2mim_mm.UnlabelledImages', data_root=data_root + 'val', pipeline=pipeline),
)
test_cfg = dict()
test_evaluator = dict(type='a2mim_mm.ReconstructionLoss')
