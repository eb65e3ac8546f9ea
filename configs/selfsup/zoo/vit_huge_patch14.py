# A2MIM with ViT-H/14 with relative position bias.
_base_ = '../../_base_/zoo_transformer.py'

model = dict(
    backbone=dict(
        type='a2mim_mm.A2MIMViT',
        arch='huge',
        img_size=224,
        patch_size=14,
        out_type='featmap',
        rel_pos_bias='layer',
    ),
    mask=dict(patch_size=28),  # two patches of 14 pixels
)
