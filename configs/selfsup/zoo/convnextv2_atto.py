# A2MIM with ConvNeXt V2-Atto.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='a2mim_mm.TimmBackbone', model_name='convnextv2_atto'))
