# AdamW with layer-wise decay of the lr, for a ViT in a classifier, detector or segmentor. The lr and the rate
# suit detectors and batches of 16. Weight decay leaves out the same parameters as in pre-training.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='a2mim_mm.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        layer_decay_rate=0.75,
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
