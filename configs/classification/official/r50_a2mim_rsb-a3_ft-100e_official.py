# ResNet-50, RSB A3, 100 epochs, as the authors' released code fine-tunes it: Table A2's numbers with SyncBN
# and with the clipping at 1 that LAMB has built in (github.com/Westlake-AI/openmixup).
_base_ = '../r50_a2mim_rsb-a3_ft-100e.py'

model = dict(backbone=dict(norm_cfg=dict(type='SyncBN')))
optim_wrapper = dict(optimizer=dict(max_grad_norm=1.0))
