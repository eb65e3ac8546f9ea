# The authors' ViT-S (768 wide, 8 layers: not DeiT-S), 100 epochs, as their released code fine-tunes it
# (vit_small_p16_swin_ft_simmim_* beside the file that vit-b_a2mim_ft-100e_official.py names): no averaged
# weights, layer decay 0.65 (0.55 before September 2023).
_base_ = './vit-b_a2mim_ft-100e_official.py'

model = dict(backbone=dict(arch='small'))

custom_hooks = [
    dict(type='a2mim_mm.ThroughputHook'),
    dict(type='a2mim_mm.UnreadableImagesHook'),
    dict(type='a2mim_mm.ClassesHook'),
]
