# ConvNeXt-S, 300 epochs, as the authors' released code ran it; see a2mim_convnext-t.py beside this file.
_base_ = './a2mim_convnext-t.py'

model = dict(backbone=dict(arch='small'))
