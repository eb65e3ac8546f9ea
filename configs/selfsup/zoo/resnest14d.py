# A2MIM with ResNeSt-14d.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='a2mim_mm.TimmBackbone', model_name='resnest14d'))
