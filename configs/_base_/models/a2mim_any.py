# A2MIM with any backbone, the paper's settings. Where the token goes, its width, and width and stride of the
# decoder are found when the model is built, unless a config says them. The log and tools/list_sites.py tell.
model = dict(
    type='a2mim_mm.A2MIM',
    neck=dict(type='a2mim_mm.LinearDecoder'),  # Section 5.1: a linear head
    head=dict(
        type='a2mim_mm.A2MIMHead',
        loss_spa=dict(type='a2mim_mm.PixelL1Loss'),  # Eq. 6
        loss_freq=dict(type='a2mim_mm.FocalFrequencyLoss', alpha=1.0),  # Eq. 4, 5
        lambda_freq=0.5,  # Section 4, below Eq. 6
    ),
    # Section 5.1, Table A1. At 224 pixels 30 of 7 x 7 patches are hidden: 61.2 %.
    mask=dict(type='a2mim_mm.RandomPatchMask', patch_size=32, ratio=0.6),
    mask_token=dict(type='a2mim_mm.MaskToken', mode='add'),
    fill='mean',  # Section 4: the mean RGB of the image
    # The paper does not say how the decoder starts. This is the usual way, and the authors'.
    init_cfg=dict(type='TruncNormal', std=0.02, a=-0.1, b=0.1, bias=0, override=dict(name='neck')),
)
