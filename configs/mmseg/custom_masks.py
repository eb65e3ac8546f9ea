# UperNet on your own images and PNG masks; see docs/your_data.md. Three variables:
data_root = 'data/my_masks'  # images/{train,val}/NAME.jpg, masks/{train,val}/NAME.png
classes = ('background', 'cat', 'dog')  # the names of mask values 0, 1, 2; 255 is ignored
image_suffix = '.jpg'

_base_ = './upernet_a2mim-r50_100e_ade20k-512x512.py'  # or another config of this folder

model = dict(decode_head=dict(num_classes=len(classes)), auxiliary_head=dict(num_classes=len(classes)))

train_dataloader = dict(
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
        metainfo=dict(classes=classes),
        img_suffix=image_suffix,
        seg_map_suffix='.png',
    )
)
val_dataloader = dict(
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/val', seg_map_path='masks/val'),
        metainfo=dict(classes=classes),
        img_suffix=image_suffix,
        seg_map_suffix='.png',
    )
)
test_dataloader = val_dataloader
