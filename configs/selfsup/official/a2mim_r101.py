# ResNet-101, 300 epochs, as the authors' released code ran it; see a2mim_r50.py here. Its frequency term is
# a focal L1 of each image's spectrum. The slope is that of their pixel loss.
_base_ = './a2mim_r50.py'

model = dict(
    backbone=dict(depth=101),
    head=dict(
        loss_freq=dict(
            _delete_=True,
            type='a2mim_mm.FocalFrequencyLoss',
            reweight=False,
            focal_beta=0.2,
            target_share=0.5,
            leak=1e-3,
        ),
        lambda_freq=0.1,
    ),
)
