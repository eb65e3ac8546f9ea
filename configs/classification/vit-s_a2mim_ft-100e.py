# ViT-S (DeiT-S: 384 wide) fine-tuned on ImageNet-1K, 100 epochs (Table 2), by Table A2's DeiT column.
_base_ = './vit-b_a2mim_ft-100e.py'

model = dict(backbone=dict(arch='deit-small'), head=dict(in_channels=384))
