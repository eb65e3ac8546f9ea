# The authors' ViT-S, 200 epochs, as the table of their zoo has it; see vit-s_a2mim_ft-100e_official.py.
_base_ = './vit-s_a2mim_ft-100e_official.py'

train_cfg = dict(max_epochs=200)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=180,
        eta_min=1e-6,
        by_epoch=True,
        begin=20,
        end=200,
        convert_to_iter_based=True,
    ),
]
