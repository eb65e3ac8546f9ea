# 100 epochs: 5 of warm-up, then cosine decay (Table A2). Another length is one number: train_cfg.max_epochs.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, end=5, convert_to_iter_based=True),
    # eta_min is ours and RSB's; the paper gives none.
    dict(type='CosineAnnealingLR', begin=5, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=100)
