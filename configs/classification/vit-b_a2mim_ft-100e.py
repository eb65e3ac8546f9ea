# ViT-B fine-tuned on ImageNet-1K, 100 epochs (Table 2), by Table A2's DeiT column:
# 8 GPUs x 128 images = 1024.
_base_ = [
    '../_base_/classification.py',
    '../_base_/schedules/layer_decay.py',
    '../_base_/schedules/finetune_cosine.py',
]
start = 'pretrained'
fresh_params = ('ln2.',)  # the norm after mean pooling

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='a2mim_mm.A2MIMViT',
        arch='deit-base',
        patch_size=16,
        # As in BEiT and MAE, the mean of the patch tokens is normalised (ln2), not each token (ln1).
        out_type='avg_featmap',
        final_norm=False,
        drop_path_rate=0.1,  # Table A2: stochastic depth
        rel_pos_bias='layer',  # as in pre-training (Appendix A.2)
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),  # Table A2: CE, epsilon 0.1
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5),  # BEiT's and MAE's
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),  # Table A2
)

train_pipeline = [
    dict(type='a2mim_mm.LoadImage'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandAugment',  # Table A2: (9, 0.5)
        policies='timm_increasing',
        num_policies=2,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),  # the mean colour, BGR
    ),
    dict(type='PackInputs', algorithm_keys=('unreadable',)),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=2.5e-4 * 1024 / 256, weight_decay=0.05),  # Table A2: base lr 2.5e-4 per 256 images
    paramwise_cfg=dict(layer_decay_rate=0.65),  # Section 5.2
    clip_grad=dict(max_norm=5.0),  # Table A2
)
auto_scale_lr = dict(enable=True, base_batch_size=1024)  # Table A2
