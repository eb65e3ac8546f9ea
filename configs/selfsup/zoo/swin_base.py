# A2MIM with Swin-B.
_base_ = '../../_base_/zoo_transformer.py'

model = dict(backbone=dict(type='SwinTransformer', arch='base', img_size=224))
