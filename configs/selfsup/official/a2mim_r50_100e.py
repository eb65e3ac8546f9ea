# ResNet-50, 100 epochs, as the authors' released code ran it; see a2mim_r50.py beside this file.
_base_ = './a2mim_r50.py'

# In this schedule, unlike in the longer one, gate and token have no decay and a tenth of the lr.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'mask_token': dict(lr_mult=0.1, decay_mult=0.0)}))

train_cfg = dict(max_epochs=100)
