# A2MIM on your own images: any folder, nested or not, without labels. Set data_root, the only variable.
# The lr follows the batch. This is ResNet-50; for a ViT write './a2mim_vit-s.py' below.
_base_ = './a2mim_r50.py'

data_root = 'data/my_images'

train_dataloader = dict(dataset=dict(data_root=data_root))
# tools/test.py measures the training images, unless you name others here.
test_dataloader = dict(dataset=dict(data_root=data_root))
