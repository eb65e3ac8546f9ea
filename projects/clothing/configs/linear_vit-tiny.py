# Linear probe of ViT-Tiny on the photos of clothes. See linear_resnet18.py.
_base_ = './linear_resnet18.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='a2mim_mm.A2MIMViT',
        arch='deit-tiny',
        img_size=64,
        patch_size=8,
        out_type='featmap',
        rel_pos_bias='layer',
        frozen_stages=12,
    ),
    neck=[dict(type='GlobalAveragePooling'), dict(type='ClsBatchNormNeck', input_features=192)],
    head=dict(in_channels=192),
)
