# What every classifier shares: ImageNet-1K, or other images with one folder for each class, and the runtime.
_base_ = './default_runtime.py'

data_root = 'data/imagenet/'  # train/CLASS/*, val/CLASS/*
num_classes = 1000

data_preprocessor = dict(
    type='ClsDataPreprocessor',
    num_classes=num_classes,  # of the mixed labels
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

# Linear probes only crop and flip. Each fine-tuning recipe brings its own pipeline.
train_pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs', algorithm_keys=('unreadable',)),
]
test_pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),  # crop ratio 224 / 256 = 0.875
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=128,  # x 8 GPUs = 1024
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='a2mim_mm.KeyedSampler', shuffle=True),
    dataset=dict(type='a2mim_mm.LabelledImages', data_root=data_root + 'train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='a2mim_mm.KeyedSampler', shuffle=False),
    dataset=dict(
        type='a2mim_mm.LabelledImages',
        data_root=data_root + 'val',
        pipeline=test_pipeline,
        max_refetch=0,  # an unreadable image is an error; no other image takes its place
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator

val_cfg = dict()
test_cfg = dict()

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1', rule='greater'))
custom_hooks = [
    dict(type='a2mim_mm.ThroughputHook'),
    dict(type='a2mim_mm.UnreadableImagesHook'),
    dict(type='a2mim_mm.ClassesHook'),
]
