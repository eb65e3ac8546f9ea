# A2MIM with EVA-02-Ti/14 with RoPE.
_base_ = '../../_base_/zoo_transformer.py'

model = dict(
    backbone=dict(type='a2mim_mm.TimmBackbone', model_name='eva02_tiny_patch14_224', img_size=224),
    mask=dict(patch_size=28),  # two patches of 14 pixels
)
