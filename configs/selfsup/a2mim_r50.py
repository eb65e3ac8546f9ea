# A2MIM, ResNet-50, ImageNet-1K, 300 epochs (Tables 1, 3 and A1): 8 GPUs x 256 images = 2048.
_base_ = [
    '../_base_/models/a2mim_resnet50.py',
    '../_base_/datasets/imagenet_mim.py',
    '../_base_/schedules/adamw_cosine.py',
    '../_base_/default_runtime.py',
]
