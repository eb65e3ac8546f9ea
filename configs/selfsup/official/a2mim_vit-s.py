# The authors' ViT-S (768 wide, 8 layers, 8 heads: not DeiT-S), 800 epochs; see a2mim_vit-b.py.
_base_ = './a2mim_vit-b.py'

model = dict(backbone=dict(arch='small'))

# 8 GPUs x 256 images, without the accumulation of ViT-B.
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(accumulative_counts=1)
