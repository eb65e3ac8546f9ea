# ViT-B, 800 epochs, as the authors' released code ran it (github.com/Westlake-AI/openmixup,
# configs/selfsup/a2mim). Where it differs from the paper: token before the first layer, losses and lambda,
# drop path, LayerScale, schedule. It has no k bias, which makes no difference, see A2MIMViT.
# 8 GPUs x 128 images x 2 accumulation = 2048: L_freq averages spectra over the batch of a GPU, so the 128 is
# part of the loss. Paper, authors' code and both presets side by side: docs/fidelity.md.
_base_ = '../a2mim_vit-b.py'

model = dict(
    backbone=dict(drop_path_rate=0.1, layer_scale_init_value=0.1),
    head=dict(
        loss_freq=dict(
            squared=True,
            batch_spectrum=True,
            log_weight=True,
            normalize='batch',
            target_share=0.5,
        ),
        lambda_freq=0.1,
    ),
    mask_token=dict(site='patch_embed'),
)

amp_dtype = None  # float32, as theirs

train_dataloader = dict(batch_size=128)
# lr 1e-4 per 512 images. Tokens, embeddings, tables and LayerScale have no decay, as in the paper's config.
optim_wrapper = dict(optimizer=dict(lr=4e-4), accumulative_counts=2)
param_scheduler = [
    dict(type='LinearLR', start_factor=2e-6, end=10, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[700], gamma=0.1),
]
