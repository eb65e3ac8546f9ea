# Linear probe of ResNet-50, MoCo's protocol (https://arxiv.org/abs/1911.05722): 8 GPUs x 32 images = 256.
_base_ = '../_base_/classification.py'
start = 'pretrained'

model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=50, frozen_stages=4),  # frozen BatchNorm stays in eval mode
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048),
)
train_dataloader = dict(batch_size=32)

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=30.0, momentum=0.9, weight_decay=0.0))
auto_scale_lr = dict(enable=True, base_batch_size=256)
param_scheduler = dict(type='MultiStepLR', milestones=[60, 80], gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=100)
