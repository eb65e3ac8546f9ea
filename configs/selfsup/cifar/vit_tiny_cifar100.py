# A2MIM with ViT-Tiny, as for CIFAR-10. CIFAR-100.
_base_ = './vit_tiny_cifar10.py'

data_root = 'data/cifar100/'
data_preprocessor = dict(mean=[129.3, 124.1, 112.4], std=[68.2, 65.4, 70.4])
train_dataloader = dict(dataset=dict(data_root=data_root + 'train'))
test_dataloader = dict(dataset=dict(data_root=data_root + 'test'))
