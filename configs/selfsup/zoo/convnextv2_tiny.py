# A2MIM with ConvNeXt V2-T.
_base_ = '../../_base_/zoo.py'

model = dict(
    backbone=dict(
        type='ConvNeXt', arch='tiny', use_grn=True, layer_scale_init_value=0.0, gap_before_final_norm=False
    )
)
