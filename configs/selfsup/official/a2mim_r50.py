# ResNet-50, 300 epochs, as the authors' released code ran it (github.com/Westlake-AI/openmixup,
# configs/selfsup/a2mim). It differs from the paper in losses, gate, crop, SyncBN and the rates of the token.
_base_ = '../a2mim_r50.py'

model = dict(
    backbone=dict(norm_cfg=dict(type='SyncBN'), zero_init_residual=True),
    head=dict(
        loss_spa=dict(_delete_=True, type='a2mim_mm.FocalL1Loss', beta=0.2),
        loss_freq=dict(
            squared=True,
            batch_spectrum=True,
            log_weight=True,
            normalize='batch',
            target_share=0.5,
            leak=1e-3,
        ),
        lambda_freq=0.5,
    ),
    mask_token=dict(gate_init=1e-6),
)

crop_scale = (0.8, 1.0)
pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(type='a2mim_mm.RandomResizedCrop', scale=224, crop_ratio_range=crop_scale),
    dict(type='RandomFlip', prob=0.5),
    dict(type='a2mim_mm.MaskSeed'),
    dict(type='PackInputs', algorithm_keys=('mask_seed', 'unreadable')),
]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))

amp_dtype = None  # float32, as theirs

# The lr is the paper's: 1.2e-3 at batch 2048, cosine to 1e-5. Norms, biases and the token have no decay, and
# the token a tenth of the lr. The gate decays, as do the norms of the downsamplings, which their rule misses.
optim_wrapper = dict(
    paramwise_cfg=dict(
        _delete_=True,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            'mask_token.token': dict(lr_mult=0.1, decay_mult=0.0),
            'downsample.1.weight': dict(),
        },
    )
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=10, eta_min=1e-5, convert_to_iter_based=True),
]
