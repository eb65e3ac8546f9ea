# The authors' ViT-S (768 wide, 8 layers: not DeiT-S), 100 epochs, as their released code fine-tunes it
# (vit_small_p16_swin_ft_simmim_* beside the file that vit-b_a2mim_ft-100e_official.py names): layer decay
# 0.55, no averaged weights.
_base_ = './vit-b_a2mim_ft-100e_official.py'

model = dict(backbone=dict(arch='small'))

optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.55))
custom_hooks = [
    dict(type='a2mim_mm.ThroughputHook'),
    dict(type='a2mim_mm.UnreadableImagesHook', max_share=0.001, min_count=10),
    dict(type='a2mim_mm.ClassesHook'),
]
