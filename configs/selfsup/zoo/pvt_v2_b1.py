# A2MIM with PVT v2-B1.
_base_ = '../../_base_/zoo_transformer.py'

model = dict(backbone=dict(type='a2mim_mm.TimmBackbone', model_name='pvt_v2_b1'))
