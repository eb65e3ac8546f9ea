# A2MIM with ResNet-50, the paper's settings.
_base_ = './a2mim_any.py'

model = dict(
    backbone=dict(type='ResNet', depth=50),
    neck=dict(in_channels=2048, encoder_stride=32),
    mask_token=dict(site='layer3', channels=1024),  # Section 5.1: stage 3
)
