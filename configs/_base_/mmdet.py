# What every detector shares: COCO at several scales, and the runtime.
_base_ = ['mmdet::_base_/datasets/coco_instance.py', 'mmdet::_base_/default_runtime.py']

custom_imports = dict(imports=['a2mim_mm'])
custom_hooks = [dict(type='a2mim_mm.ThroughputHook')]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
randomness = dict(seed=0)

# As MoCo: the short side is one of six, the long side at most 1333. Tests use 800 and 1333, as in the base.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomChoiceResize',
        scales=[(1333, 640), (1333, 672), (1333, 704), (1333, 736), (1333, 768), (1333, 800)],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    batch_size=2,  # x 8 GPUs = 16
    num_workers=4,
    dataset=dict(pipeline=train_pipeline),
)
