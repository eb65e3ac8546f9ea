# A2MIM with ViT-Tiny on patches of 4 pixels, with relative position bias. CIFAR-10.
_base_ = '../../_base_/cifar.py'

model = dict(
    backbone=dict(
        type='a2mim_mm.A2MIMViT',
        arch='deit-tiny',
        img_size=32,
        patch_size=4,
        out_type='featmap',
        rel_pos_bias='layer',
    )
)
optim_wrapper = dict(
    optimizer=dict(lr=4e-4),  # two thirds of ResNet's, as in Table A1
    clip_grad=dict(max_norm=5.0),  # Table A1, ViTs
)
