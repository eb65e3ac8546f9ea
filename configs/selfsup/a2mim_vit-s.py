# A2MIM, ViT-S/16 (DeiT-S: 384 wide, 12 layers, 6 heads), ImageNet-1K, 300 epochs (Tables 2 and A1):
# 8 GPUs x 256 images = 2048.
_base_ = [
    '../_base_/models/a2mim_vit.py',
    '../_base_/datasets/imagenet_mim.py',
    '../_base_/schedules/adamw_cosine.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(arch='deit-small'),
    neck=dict(in_channels=384),
    mask_token=dict(site='layers.4', channels=384),  # Section 5.1: layer 5, counted from 1
)

optim_wrapper = dict(
    optimizer=dict(lr=1e-4 * 2048 / 256),  # Table A1, ViTs: base lr 1e-4 per 256 images
    clip_grad=dict(max_norm=5.0),  # Table A1, ViTs
)
