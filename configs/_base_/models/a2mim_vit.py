# A2MIM with ViT-B, the paper's settings. Comments marked (S) say what ViT-S changes.
_base_ = './a2mim_any.py'

model = dict(
    backbone=dict(
        type='a2mim_mm.A2MIMViT',
        arch='deit-base',  # (S) deit-small: 384 wide, 12 layers, 6 heads
        img_size=224,
        patch_size=16,
        out_type='featmap',
        rel_pos_bias='layer',  # Appendix A.2: relative position bias, initialised as zero
    ),
    neck=dict(in_channels=768, encoder_stride=16),  # (S) 384
    # Section 5.1: layer 8, counted from 1 (S: layer 5, 'layers.4', 384 channels)
    mask_token=dict(site='layers.7', channels=768),
)
