# A2MIM with ResNet-34.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='ResNet', depth=34))
