# ViT-L, 800 epochs, as the authors' released code ran it; see a2mim_vit-b.py beside this file.
_base_ = './a2mim_vit-b.py'

model = dict(
    backbone=dict(arch='large'),
    neck=dict(in_channels=1024),
    mask_token=dict(channels=1024),
)
