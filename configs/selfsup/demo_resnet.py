# `make demo`: A2MIM with a small ResNet on a dozen photos of 64 pixels; minutes on a CPU.
_base_ = ['../_base_/demo.py', '../_base_/models/a2mim_resnet50.py']

# Three stages and stride 8: at stride 32, 64 pixels would become 2 x 2 features.
model = dict(
    backbone=dict(
        depth=18,
        num_stages=3,
        strides=(1, 2, 1),
        dilations=(1, 1, 1),
        out_indices=(2,),
        stem_channels=32,
        base_channels=32,
    ),
    neck=dict(in_channels=128, encoder_stride=8),
    mask=dict(patch_size=16),
    mask_token=dict(site='layer2', channels=64),
)
