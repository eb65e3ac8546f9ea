# A2MIM with MobileNetV3-L.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='MobileNetV3', arch='large'))
