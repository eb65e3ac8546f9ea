# A2MIM with MaxViT-T.
_base_ = '../../_base_/zoo_transformer.py'

model = dict(backbone=dict(type='a2mim_mm.TimmBackbone', model_name='maxvit_tiny_tf_224', img_size=224))
