# A2MIM with CoAtNet-0.
_base_ = '../../_base_/zoo_transformer.py'

model = dict(backbone=dict(type='a2mim_mm.TimmBackbone', model_name='coatnet_0_rw_224', img_size=224))
