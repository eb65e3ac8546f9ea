# Table A1, for a total batch of 2048: AdamW, 10 epochs of warm-up, then cosine decay, 300 epochs in all.
# Another length of training is one number: train_cfg.max_epochs. mmengine ends the cosine with it.
base_batch_size = 2048  # Table A1
warmup_epochs = 10  # Table A1

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW',
        lr=1.5e-4 * base_batch_size / 256,  # Table A1, ResNet-50: base lr 1.5e-4 per 256 images
        betas=(0.9, 0.999),  # Table A1
        weight_decay=0.05,  # Table A1
    ),
    # No weight decay on norms, biases, tokens and LayerScale, nor on embeddings and bias tables.
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={
            'cls_token': dict(decay_mult=0.0),
            'pos_embed': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0),
        },
    ),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, end=warmup_epochs, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=warmup_epochs,
        eta_min=1e-5,  # ours; the paper gives none
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=300)

# tools/train.py scales lr and eta_min in proportion to the batch: GPUs x batch_size x accumulative_counts.
auto_scale_lr = dict(enable=True, base_batch_size=base_batch_size)
