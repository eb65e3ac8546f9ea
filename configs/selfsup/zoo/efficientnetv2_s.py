# A2MIM with EfficientNetV2-S.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='EfficientNetV2', arch='s'))
