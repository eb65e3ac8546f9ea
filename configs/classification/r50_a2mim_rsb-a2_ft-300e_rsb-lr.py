# r50_a2mim_rsb-a2_ft-300e.py at the lr of RSB A2 itself (https://arxiv.org/abs/2110.00476), 0.005 at batch
# 2048. Table A2's base lr, 1.5e-3 per 256 images, gives 0.012 there. For RSB A3 both are 0.008.
_base_ = './r50_a2mim_rsb-a2_ft-300e.py'

optim_wrapper = dict(optimizer=dict(lr=5e-3))
