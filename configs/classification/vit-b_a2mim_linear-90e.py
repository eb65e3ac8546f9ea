# Linear probe of ViT-B, MAE's protocol (https://arxiv.org/abs/2111.06377, Table 10), on other features: the
# mean of the patch tokens, which A2MIM trains, instead of the cls token. 8 GPUs x 2048 images = 16384.
_base_ = '../_base_/classification.py'
start = 'pretrained'

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='a2mim_mm.A2MIMViT',
        arch='deit-base',
        patch_size=16,
        out_type='featmap',
        rel_pos_bias='layer',
        frozen_stages=12,
    ),
    # As in MAE: BatchNorm without affine parameters between features and classifier
    neck=[dict(type='GlobalAveragePooling'), dict(type='ClsBatchNormNeck', input_features=768)],
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=768),
)
train_dataloader = dict(batch_size=2048)
val_dataloader = dict(batch_size=256)
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='LARS', lr=0.1 * 16384 / 256, momentum=0.9, weight_decay=0.0),
    paramwise_cfg=dict(custom_keys={'bias': dict(lars_exclude=True)}),  # as in MAE: the plain lr for the bias
)
auto_scale_lr = dict(enable=True, base_batch_size=16384)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=10, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=90)
