# ResNet-50, 300 epochs, as the authors' released code fine-tunes it (github.com/Westlake-AI/openmixup,
# configs/benchmarks/classification/imagenet/r50_rsb_a2_ft_*). It differs from Table A2: RSB's lr, SyncBN,
# the clipping at 1 that LAMB has built in, each image in three versions, averaged weights. Their average also
# warms up; this one does not.
_base_ = '../r50_a2mim_rsb-a2_ft-300e.py'

model = dict(backbone=dict(norm_cfg=dict(type='SyncBN')))
train_dataloader = dict(sampler=dict(type='a2mim_mm.KeyedRepeatAugSampler'))
optim_wrapper = dict(optimizer=dict(lr=5e-3, max_grad_norm=1.0))
custom_hooks = [
    dict(type='a2mim_mm.ThroughputHook'),
    dict(type='a2mim_mm.UnreadableImagesHook'),
    dict(type='a2mim_mm.ClassesHook'),
    dict(type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL'),  # each step keeps 0.9999 of the average
]
