# Mask R-CNN with ResNet-50-C4, 24 epochs (Section 5.3, Appendix A.2, Table 3): MoCo's setting.
# SyncBN everywhere, one more after the stage that the RoI head runs, nothing frozen, RGB images.
_base_ = [
    '../_base_/mmdet.py',
    'mmdet::_base_/models/mask-rcnn_r50-caffe-c4.py',
    'mmdet::_base_/schedules/schedule_2x.py',  # SGD, lr 0.02, steps at 16 and 22 of 24 epochs
]

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(frozen_stages=-1, norm_cfg=norm_cfg, norm_eval=False, style='pytorch', init_cfg=None),
    roi_head=dict(
        shared_head=dict(_delete_=True, type='a2mim_mm.ResLayerExtraNorm', depth=50, norm_cfg=norm_cfg)
    ),
    train_cfg=dict(rpn=dict(allowed_border=-1)),  # as in detectron2, for which MoCo wrote its setting
)

# As in detectron2: no weight decay on norms, 1,000 iterations of warm-up.
optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mult=0.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=1000),
    dict(type='MultiStepLR', milestones=[16, 22], gamma=0.1),
]

# --pretrained fills both; only the extra norm is new.
pretrained_parts = ('backbone', 'roi_head.shared_head')
fresh_params = ('norm.',)

auto_scale_lr = dict(enable=True, base_batch_size=16)
