# A2MIM with FastViT-T8.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='a2mim_mm.TimmBackbone', model_name='fastvit_t8'))
