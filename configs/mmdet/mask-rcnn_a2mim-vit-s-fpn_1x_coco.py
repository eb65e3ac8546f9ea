# Mask R-CNN with ViT-S (DeiT-S) and FPN, 12 epochs; not in the paper. See the config with ViT-B.
_base_ = './mask-rcnn_a2mim-vit-b-fpn_1x_coco.py'

model = dict(
    backbone=dict(arch='deit-small'),
    neck=[
        dict(type='a2mim_mm.ViTPyramid', channels=384),
        dict(
            type='FPN',
            in_channels=[384, 384, 384, 384],
            out_channels=256,
            num_outs=5,
            norm_cfg=dict(type='GN', num_groups=32),
        ),
    ],
)
