# A2MIM with MobileNetV4-Conv-S.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='a2mim_mm.TimmBackbone', model_name='mobilenetv4_conv_small'))
