# ConvNeXt-T, 300 epochs, as the authors' released code ran it (github.com/Westlake-AI/openmixup,
# configs/selfsup/a2mim): a gated token after the last downsampling, which starts at zero; focal L1 on pixels,
# no L_freq; float16. Where their gate starts is not known to us. Here it starts at ResNet-50's 1e-6.
_base_ = './a2mim_r50.py'

model = dict(
    backbone=dict(_delete_=True, type='ConvNeXt', arch='tiny', gap_before_final_norm=False),
    neck=dict(in_channels=768),
    head=dict(lambda_freq=0.0),
    mask_token=dict(site='downsample_layers.3', channels=768, init_std=0.0),
)

amp_dtype = 'float16'  # as theirs

# Norms and biases have no decay. Token and gate have none either, and a tenth of the lr.
optim_wrapper = dict(
    paramwise_cfg=dict(
        _delete_=True,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'mask_token': dict(lr_mult=0.1, decay_mult=0.0)},
    )
)
