# A2MIM, ResNet-50, ImageNet-1K, 100 epochs ("Fast Pre-training" of Table 1): 8 GPUs x 256 images = 2048.
_base_ = './a2mim_r50.py'

train_cfg = dict(max_epochs=100)
