# A2MIM with ViT-S (DeiT-S) and patches of 16. The rest is as in pretrain_resnet50.py.
_base_ = './pretrain_resnet50.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='a2mim_mm.A2MIMViT',
        arch='deit-small',
        img_size=160,
        patch_size=16,
        out_type='featmap',
        rel_pos_bias='layer',
    ),
    neck=dict(in_channels=384, encoder_stride=16),
    mask_token=dict(site='layers.4', channels=384),  # Section 5.1: layer 5, counted from 1
)
