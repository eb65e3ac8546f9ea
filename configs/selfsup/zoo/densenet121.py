# A2MIM with DenseNet-121.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='DenseNet', arch='121'))
