# A2MIM with ViT-S/16 with RoPE and 4 register tokens, DINOv3's.
_base_ = '../../_base_/zoo_transformer.py'

model = dict(backbone=dict(type='a2mim_mm.TimmBackbone', model_name='vit_small_patch16_dinov3', img_size=224))
