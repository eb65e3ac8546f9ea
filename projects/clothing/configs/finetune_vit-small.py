# ViT-S, fine-tuned on the photos of clothes: 160 pixels, 50 epochs, for a GPU. See finetune_resnet50.py.
_base_ = './finetune_resnet50.py'
fresh_params = ('ln2.',)

model = dict(
    backbone=dict(
        _delete_=True,
        type='a2mim_mm.A2MIMViT',
        arch='deit-small',
        img_size=160,
        patch_size=16,
        out_type='avg_featmap',
        final_norm=False,
        rel_pos_bias='layer',
    ),
    neck=None,
    head=dict(in_channels=384),
)
optim_wrapper = dict(
    constructor='a2mim_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75, flat_decay_mult=0.0),
)
