# ViT-Tiny with patches of 8, fine-tuned on the photos of clothes. See finetune_resnet18.py.
_base_ = './finetune_resnet18.py'
fresh_params = ('ln2.',)

model = dict(
    backbone=dict(
        _delete_=True,
        type='a2mim_mm.A2MIMViT',
        arch='deit-tiny',
        img_size=64,
        patch_size=8,
        out_type='avg_featmap',
        final_norm=False,
        rel_pos_bias='layer',
    ),
    neck=None,
    head=dict(in_channels=192),
)
optim_wrapper = dict(
    constructor='a2mim_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75, flat_decay_mult=0.0),
)
