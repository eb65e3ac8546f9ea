# A2MIM with ViT-L/16 with relative position bias.
_base_ = '../../_base_/zoo_transformer.py'

model = dict(
    backbone=dict(
        type='a2mim_mm.A2MIMViT',
        arch='large',
        img_size=224,
        patch_size=16,
        out_type='featmap',
        rel_pos_bias='layer',
    )
)
