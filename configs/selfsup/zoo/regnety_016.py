# A2MIM with RegNetY-1.6GF.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='a2mim_mm.TimmBackbone', model_name='regnety_016'))
