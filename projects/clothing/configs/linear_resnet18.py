# Linear probe of ResNet-18 on the photos of clothes. The backbone is frozen, with its BatchNorm in evaluation
# mode. A BatchNorm without affine parameters precedes the classifier, so that one lr suits all features.
_base_ = './finetune_resnet18.py'

model = dict(
    backbone=dict(frozen_stages=4),
    neck=[dict(type='GlobalAveragePooling'), dict(type='ClsBatchNormNeck', input_features=512)],
    head=dict(loss=dict(_delete_=True, type='CrossEntropyLoss')),
)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.0),
)
auto_scale_lr = dict(base_batch_size=32)
param_scheduler = [dict(type='CosineAnnealingLR', convert_to_iter_based=True)]
train_cfg = dict(max_epochs=15)
