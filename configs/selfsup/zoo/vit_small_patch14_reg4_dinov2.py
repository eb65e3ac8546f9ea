# A2MIM with ViT-S/14 with 4 register tokens, DINOv2's.
_base_ = '../../_base_/zoo_transformer.py'

model = dict(
    backbone=dict(type='a2mim_mm.TimmBackbone', model_name='vit_small_patch14_reg4_dinov2', img_size=224),
    mask=dict(patch_size=28),  # two patches of 14 pixels
)
