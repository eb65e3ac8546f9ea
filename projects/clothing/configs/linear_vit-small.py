# Linear probe of ViT-S on the photos of clothes, for a GPU. See linear_resnet18.py.
_base_ = './linear_resnet50.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='a2mim_mm.A2MIMViT',
        arch='deit-small',
        img_size=160,
        patch_size=16,
        out_type='featmap',
        rel_pos_bias='layer',
        frozen_stages=12,
    ),
    neck=[dict(type='GlobalAveragePooling'), dict(type='ClsBatchNormNeck', input_features=384)],
    head=dict(in_channels=384),
)
