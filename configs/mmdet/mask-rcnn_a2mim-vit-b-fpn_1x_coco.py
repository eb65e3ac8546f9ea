# Mask R-CNN with ViT-B and FPN, 12 epochs (Section 5.3, Appendix A.2, Table 4). The paper gives the schedule
# and the relative position bias; rates, drop path, windows, milestones and the norm of FPN are ours.
_base_ = [
    '../_base_/mmdet.py',
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    '../_base_/schedules/layer_decay.py',  # AdamW, lr 1e-4, weight decay 0.05, decay 0.75 a layer
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='a2mim_mm.WindowedA2MIMViT',
        arch='deit-base',
        img_size=224,  # as in pre-training: its tables are kept; the input may have any size
        patch_size=16,
        out_type='featmap',
        out_indices=(2, 5, 8, 11),
        drop_path_rate=0.1,
        rel_pos_bias='layer',  # Appendix A.2
        window_size=14,
        global_layers=(2, 5, 8, 11),  # layers 3, 6, 9, 12, counted from 1
    ),
    # Three of the four features come without a norm, so FPN has one; Li et al. (see ViTPyramid) use BN.
    neck=[
        dict(type='a2mim_mm.ViTPyramid', channels=768),
        dict(
            type='FPN',
            in_channels=[768, 768, 768, 768],
            out_channels=256,
            num_outs=5,
            norm_cfg=dict(type='GN', num_groups=32),
        ),
    ],
)

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=500),
    dict(type='MultiStepLR', milestones=[9, 11], gamma=0.1),
]
amp_dtype = 'float16'  # mmcv's RoIAlign has no bfloat16
auto_scale_lr = dict(enable=True, base_batch_size=16)
