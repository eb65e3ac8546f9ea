# A2MIM with ConvNeXt-S.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='ConvNeXt', arch='small', gap_before_final_norm=False))
