# A2MIM with BEiT-B/16.
_base_ = '../../_base_/zoo_transformer.py'

model = dict(backbone=dict(type='a2mim_mm.TimmBackbone', model_name='beit_base_patch16_224', img_size=224))
