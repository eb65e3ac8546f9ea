# A2MIM on your own images: any folder, nested or not, no labels. Set data_root, the one variable there is.
# The lr follows the batch by itself. This is ResNet-50; for a ViT write './a2mim_vit-s.py' below.
_base_ = './a2mim_r50.py'

data_root = 'data/my_images'

train_dataloader = dict(dataset=dict(data_root=data_root))
# tools/test.py: the training images themselves, unless you have others
test_dataloader = dict(dataset=dict(data_root=data_root))
