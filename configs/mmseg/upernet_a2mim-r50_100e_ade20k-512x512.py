# UperNet with ResNet-50 (7 x 7 stem, as pre-trained), ADE20K, 100 epochs (Section 5.3, Appendix A.3,
# Table 3). The paper searches the lr; the rates here are ours.
_base_ = ['../_base_/models/upernet.py', '../_base_/mmseg.py']

model = dict(
    data_preprocessor={{_base_.data_preprocessor}},
    backbone=dict(type='ResNet', depth=50, norm_cfg=dict(type='SyncBN')),
)

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4)
)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-4, by_epoch=False)]
