# Fine-tuning on your own images, a folder for each class: data/my_classes/{train,val}/CLASS/*. Two variables:
data_root = 'data/my_classes'
num_classes = 10

# ResNet-50 at 160 pixels; any other file of this folder serves as well.
_base_ = './r50_a2mim_rsb-a3_ft-100e.py'

model = dict(head=dict(num_classes=num_classes))
data_preprocessor = dict(num_classes=num_classes)
train_dataloader = dict(dataset=dict(data_root=data_root + '/train'))
val_dataloader = dict(dataset=dict(data_root=data_root + '/val'))
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator
