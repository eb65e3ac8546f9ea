# A2MIM from weights that exist: those of MAE, DINO, BEiT, timm, a supervised training, or an earlier A2MIM.
#     python tools/train.py configs/selfsup/continue_from.py --pretrained WEIGHTS
# This is ViT-B. For another network, copy this file and name the network's config below.
_base_ = './a2mim_vit-b.py'
start = 'pretrained'

# Ours; the paper always starts from random weights. An eighth of the epochs, a quarter of the lr, and less lr
# for the first layers, which have the least to learn. Decoder and token are new and get the whole lr.
optim_wrapper = dict(
    constructor='a2mim_mm.LayerDecayOptimWrapperConstructor',
    optimizer=dict(lr=2.5e-5 * 2048 / 256),
    paramwise_cfg=dict(layer_decay_rate=0.85),
)
warmup_epochs = 5
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=100)
