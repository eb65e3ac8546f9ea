# A2MIM with VGG-16 with BatchNorm.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='VGG', depth=16, norm_cfg=dict(type='BN')))
