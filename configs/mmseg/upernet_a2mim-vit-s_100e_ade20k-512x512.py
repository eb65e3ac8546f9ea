# UperNet with ViT-S (DeiT-S), ADE20K, 100 epochs; not in the paper. See the config with ViT-B.
_base_ = './upernet_a2mim-vit-b_100e_ade20k-512x512.py'

model = dict(
    backbone=dict(arch='deit-small'),
    neck=dict(channels=384),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=384),
    auxiliary_head=dict(in_channels=384),
)
