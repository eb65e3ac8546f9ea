# A2MIM with DeiT's ViT-Tiny (192 wide, 12 layers, 3 heads) and patches of 8. The rest is as in
# pretrain_resnet18.py.
_base_ = './pretrain_resnet18.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='a2mim_mm.A2MIMViT',
        arch='deit-tiny',
        img_size=64,
        patch_size=8,
        out_type='featmap',
        rel_pos_bias='layer',
    ),
    neck=dict(in_channels=192, encoder_stride=8),
    mask_token=dict(site='layers.4', channels=192),  # the layer of ViT-S
)
