# A2MIM with HRNet-W18. Its last map leaves some of the last fusion without a gradient.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='HRNet', arch='w18'))
find_unused_parameters = True
