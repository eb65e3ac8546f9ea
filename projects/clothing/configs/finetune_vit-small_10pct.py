# As finetune_vit-small.py, with the labels of every tenth photo only: 307 of 3,068.
_base_ = './finetune_vit-small.py'

train_dataloader = dict(dataset=dict(indices=list(range(0, 3068, 10))))
