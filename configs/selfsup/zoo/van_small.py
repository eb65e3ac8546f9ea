# A2MIM with VAN-Small (B1).
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='VAN', arch='small'))
