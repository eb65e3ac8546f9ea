# ConvNeXt-B, 300 epochs, as the authors' released code ran it; see a2mim_convnext-t.py beside this file.
_base_ = './a2mim_convnext-t.py'

model = dict(
    backbone=dict(arch='base'),
    neck=dict(in_channels=1024),
    mask_token=dict(channels=1024),
)
