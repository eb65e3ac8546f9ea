# A2MIM with ConvNeXt-T.
_base_ = '../../_base_/zoo.py'

model = dict(backbone=dict(type='ConvNeXt', arch='tiny', gap_before_final_norm=False))
