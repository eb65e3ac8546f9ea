# Linear probe of ResNet-50 on the photos of clothes, for a GPU. See linear_resnet18.py.
_base_ = './finetune_resnet50.py'

model = dict(
    backbone=dict(frozen_stages=4),
    neck=[dict(type='GlobalAveragePooling'), dict(type='ClsBatchNormNeck', input_features=2048)],
    head=dict(loss=dict(_delete_=True, type='CrossEntropyLoss')),
)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.0),
)
param_scheduler = [dict(type='CosineAnnealingLR', convert_to_iter_based=True)]
