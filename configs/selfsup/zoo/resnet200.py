# A2MIM with ResNet-200.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='a2mim_mm.ResNet', depth=200))
