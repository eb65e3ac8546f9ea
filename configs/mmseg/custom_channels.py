# UperNet on images that are not RGB photos. Four variables, as in the pre-training.
# data_root, classes and image_suffix are those of the file after _base_.
in_channels = 13
value_range = (0, 10000)
mean = [127.5] * in_channels
std = [63.75] * in_channels

_base_ = './custom_masks.py'

crop_size = (512, 512)
data_preprocessor = dict(
    _delete_=True,
    type='a2mim_mm.ChannelsPreprocessor',
    mean=mean,
    std=std,
    base=dict(type='mmseg.SegDataPreProcessor', size=crop_size, test_cfg=dict(size_divisor=32)),
)
model = dict(data_preprocessor=data_preprocessor, backbone=dict(in_channels=in_channels))

load = dict(type='a2mim_mm.LoadChannels', channels=in_channels, value_range=value_range)
train_pipeline = [
    load,
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),  # and no PhotoMetricDistortion, which is for photos
    dict(type='PackSegInputs'),
]
test_pipeline = [
    load,
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
