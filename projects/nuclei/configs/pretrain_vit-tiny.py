# A2MIM with a tiny ViT and patches of 8 on photos of nuclei and of clothes, 64 pixels: minutes on a CPU.
_base_ = './pretrain_resnet18.py'

image_size = 64

model = dict(
    backbone=dict(
        _delete_=True,
        type='a2mim_mm.A2MIMViT',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=image_size,
        patch_size=8,
        out_type='featmap',
        rel_pos_bias='layer',
    ),
    neck=dict(in_channels=192, encoder_stride=8),
    mask_token=dict(site='layers.2', channels=192),
)
pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(type='a2mim_mm.RandomResizedCrop', scale=image_size, crop_ratio_range=(0.1, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='a2mim_mm.MaskSeed'),
    dict(type='PackInputs', algorithm_keys=('mask_seed', 'unreadable')),
]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))

train_cfg = dict(max_epochs=24)
