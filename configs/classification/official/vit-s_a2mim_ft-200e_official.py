# The authors' ViT-S, 200 epochs, as in the table of their zoo; see vit-s_a2mim_ft-100e_official.py.
_base_ = './vit-s_a2mim_ft-100e_official.py'

train_cfg = dict(max_epochs=200)
