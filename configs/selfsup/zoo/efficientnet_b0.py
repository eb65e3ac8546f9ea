# A2MIM with EfficientNet-B0.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='EfficientNet', arch='b0'))
