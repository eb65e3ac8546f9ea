# A2MIM with EfficientFormerV2-S0.
_base_ = '../../_base_/zoo_transformer.py'

model = dict(backbone=dict(type='a2mim_mm.TimmBackbone', model_name='efficientformerv2_s0'))
