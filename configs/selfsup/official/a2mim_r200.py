# ResNet-200, 300 epochs, as the authors' released code ran it, without L_freq; see a2mim_r50.py.
_base_ = './a2mim_r50.py'

model = dict(backbone=dict(type='a2mim_mm.ResNet', depth=200), head=dict(lambda_freq=0.0))
