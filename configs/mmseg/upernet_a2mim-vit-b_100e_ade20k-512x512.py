# UperNet with ViT-B, ADE20K, 100 epochs (Section 5.3, Appendix A.3, Table 4). The paper gives schedule,
# batch and the relative position bias, and searches the lr; the rates here are ours.
_base_ = ['../_base_/models/upernet.py', '../_base_/schedules/layer_decay.py', '../_base_/mmseg.py']

norm_cfg = dict(type='SyncBN')
model = dict(
    data_preprocessor={{_base_.data_preprocessor}},
    backbone=dict(
        type='a2mim_mm.A2MIMViT',
        arch='deit-base',
        img_size={{_base_.crop_size}},  # position embedding and bias tables are resampled once, when loaded
        patch_size=16,
        out_type='featmap',
        out_indices=(3, 5, 7, 11),  # as BEiT and MAE
        drop_path_rate=0.1,
        rel_pos_bias='layer',  # Appendix A.3
    ),
    neck=dict(type='a2mim_mm.ViTPyramid', channels=768, norm_cfg=norm_cfg),
    decode_head=dict(in_channels=[768, 768, 768, 768], channels=768),
    auxiliary_head=dict(in_channels=768),
    test_cfg=dict(mode='slide', crop_size={{_base_.crop_size}}, stride=(341, 341)),
)

optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, end=1500, by_epoch=False),
    dict(type='PolyLR', power=1.0, begin=1500, by_epoch=False),
]
amp_dtype = 'bfloat16'
