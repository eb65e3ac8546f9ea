# `make demo`: A2MIM with a small ViT on a dozen photos of 64 pixels; minutes on a CPU.
_base_ = ['../_base_/demo.py', '../_base_/models/a2mim_vit.py']

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size={{_base_.image_size}},
        patch_size=8,
    ),
    neck=dict(in_channels=128, encoder_stride=8),
    mask=dict(patch_size=16),
    mask_token=dict(site='layers.1', channels=128),
)
