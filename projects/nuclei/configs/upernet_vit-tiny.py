# UperNet with a tiny ViT on crops of 128 pixels of the nuclei: minutes on a CPU.
_base_ = './upernet_resnet18.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    backbone=dict(
        _delete_=True,
        type='a2mim_mm.A2MIMViT',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=128,
        patch_size=8,
        out_type='featmap',
        out_indices=(1, 2, 3, 5),
        rel_pos_bias='layer',
    ),
    neck=dict(type='a2mim_mm.ViTPyramid', channels=192, patch_size=8, norm_cfg=norm_cfg),
    decode_head=dict(in_channels=[192, 192, 192, 192]),
    auxiliary_head=dict(in_channels=192),
)
