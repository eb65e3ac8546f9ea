# A2MIM with ResNet-18 as it is used at 32 pixels: a stem of stride 1, and stride 8 at the end. CIFAR-10.
_base_ = '../../_base_/cifar.py'

model = dict(backbone=dict(type='ResNet_CIFAR', depth=18))
