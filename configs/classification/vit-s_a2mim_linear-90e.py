# Linear probe of ViT-S (DeiT-S: 384 wide); see vit-b_a2mim_linear-90e.py.
_base_ = './vit-b_a2mim_linear-90e.py'

model = dict(
    backbone=dict(arch='deit-small'),
    neck=[dict(type='GlobalAveragePooling'), dict(type='ClsBatchNormNeck', input_features=384)],
    head=dict(in_channels=384),
)
