# What the zoo's networks share: the paper's settings for ResNet-50, 300 epochs.
_base_ = [
    './models/a2mim_any.py',
    './datasets/imagenet_mim.py',
    './schedules/adamw_cosine.py',
    './default_runtime.py',
]
