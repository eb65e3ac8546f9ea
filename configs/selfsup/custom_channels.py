# A2MIM on images that are not RGB photos: grey, 4 bands, 13 bands. Five variables. This is ResNet-50.
data_root = 'data/my_images'
in_channels = 13
value_range = (0, 10000)  # becomes 0..255; nothing is clipped. None keeps the units of the files
mean = [127.5] * in_channels  # of the loaded images; write those of yours
std = [63.75] * in_channels

_base_ = './a2mim_r50.py'

model = dict(backbone=dict(in_channels=in_channels))  # in_chans for networks of timm
data_preprocessor = dict(_delete_=True, type='a2mim_mm.ChannelsPreprocessor', mean=mean, std=std)
pipeline = [
    dict(type='a2mim_mm.LoadChannels', channels=in_channels, value_range=value_range),
    dict(type='a2mim_mm.RandomResizedCrop', scale=224, crop_ratio_range=(0.67, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='a2mim_mm.MaskSeed'),
    dict(type='PackInputs', algorithm_keys=('mask_seed', 'unreadable')),
]
dataset = dict(
    data_root=data_root,
    extensions=('.npy', '.tif', '.tiff', '.dcm', '.png', '.jpg', '.jpeg'),
    pipeline=pipeline,
)
train_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
