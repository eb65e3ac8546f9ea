# A2MIM, ResNet-50, ImageNet-1K, 100 epochs ("Fast Pre-training" of Table 1): 8 GPUs x 256 images = 2048.
_base_ = './a2mim_r50.py'

train_cfg = dict(max_epochs=100)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=90,
        eta_min=1e-5,
        by_epoch=True,
        begin=10,
        end=100,
        convert_to_iter_based=True,
    ),
]
