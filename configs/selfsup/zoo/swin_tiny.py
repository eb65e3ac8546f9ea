# A2MIM with Swin-T.
_base_ = '../../_base_/zoo_transformer.py'

model = dict(backbone=dict(type='SwinTransformer', arch='tiny', img_size=224))
