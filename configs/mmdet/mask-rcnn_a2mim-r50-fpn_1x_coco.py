# Mask R-CNN with ResNet-50-FPN, 12 epochs; not in the paper. As in MoCo, SyncBN is in backbone, FPN and
# heads, and nothing is frozen.
_base_ = [
    '../_base_/mmdet.py',
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/schedules/schedule_1x.py',  # SGD, lr 0.02, steps at 8 and 11 of 12 epochs
]

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    backbone=dict(frozen_stages=-1, norm_cfg=norm_cfg, norm_eval=False, init_cfg=None),
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)

auto_scale_lr = dict(enable=True, base_batch_size=16)
