# A2MIM with PoolFormer-S12.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='PoolFormer', arch='s12'))
