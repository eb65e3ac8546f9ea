# ResNet-50 fine-tuned on ImageNet-1K, 100 epochs at 160 pixels (Table 1), by Table A2's RSB A3 column:
# 8 GPUs x 256 images = 2048. mmpretrain's own config of that name trains at 224.
_base_ = ['../_base_/classification.py', '../_base_/schedules/finetune_cosine.py']
start = 'pretrained'

model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=50),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        # Table A2: BCE on the mixed labels; summed over the classes, averaged over the images
        loss=dict(type='CrossEntropyLoss', use_sigmoid=True),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.1), dict(type='CutMix', alpha=1.0)]),  # Table A2
)

train_pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(type='RandomResizedCrop', scale=160, backend='pillow', interpolation='bicubic'),  # Table A2
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandAugment',  # Table A2: (6, 0.5)
        policies='timm_increasing',
        num_policies=2,
        magnitude_level=6,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),  # the mean colour, BGR
    ),
    dict(type='PackInputs', algorithm_keys=('unreadable',)),
]
test_pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(type='ResizeEdge', scale=236, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),  # Table A2: crop ratio 0.95, 224 / 236
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='Lamb',
        lr=1e-3 * 2048 / 256,  # Table A2: base lr 1e-3 per 256 images, RSB's 8e-3 at batch 2048
        weight_decay=0.02,  # Table A2
        max_grad_norm=1e9,  # Table A2: no clipping; Lamb itself would clip at 1
    ),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
auto_scale_lr = dict(enable=True, base_batch_size=2048)  # Table A2
