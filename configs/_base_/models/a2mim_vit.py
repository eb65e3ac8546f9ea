# A2MIM with ViT-B, the paper's settings. Comments marked (S) say what ViT-S changes.
model = dict(
    type='a2mim_mm.A2MIM',
    backbone=dict(
        type='a2mim_mm.A2MIMViT',
        arch='deit-base',  # (S) deit-small: 384 wide, 12 layers, 6 heads
        img_size=224,
        patch_size=16,
        out_type='featmap',
        rel_pos_bias='layer',  # Appendix A.2: relative position bias, initialised as zero
    ),
    neck=dict(
        type='SimMIMLinearDecoder', in_channels=768, encoder_stride=16
    ),  # (S) 384; Section 5.1: a linear head
    head=dict(
        type='a2mim_mm.A2MIMHead',
        loss_spa=dict(type='PixelReconstructionLoss', criterion='L1', channel=3),  # Eq. 6
        loss_freq=dict(type='a2mim_mm.FocalFrequencyLoss', alpha=1.0),  # Eq. 4, 5
        lambda_freq=0.5,  # Section 4, below Eq. 6
    ),
    # Section 5.1, Table A1. At 224 pixels 30 of 7 x 7 patches are hidden: 61.2 %.
    mask=dict(type='a2mim_mm.RandomPatchMask', patch_size=32, ratio=0.6),
    # Section 5.1: layer 8, counted from 1 (S: layer 5, 'layers.4', 384 channels)
    mask_token=dict(type='a2mim_mm.MaskToken', site='layers.7', channels=768, mode='add'),
    fill='mean',  # Section 4: the mean RGB of the image
    # The paper does not say how the decoder starts. This is the usual way, and the authors'.
    init_cfg=dict(type='TruncNormal', std=0.02, a=-0.1, b=0.1, bias=0, override=dict(name='neck')),
)
