# A2MIM with ConvNeXt-B.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='ConvNeXt', arch='base', gap_before_final_norm=False))
