# A2MIM with DeiT-T with relative position bias.
_base_ = '../../_base_/zoo_transformer.py'

model = dict(
    backbone=dict(
        type='a2mim_mm.A2MIMViT',
        arch='deit-tiny',
        img_size=224,
        patch_size=16,
        out_type='featmap',
        rel_pos_bias='layer',
    )
)
