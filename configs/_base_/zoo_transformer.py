# What the zoo's Transformers share: the paper's lr and gradient clipping for ViTs, 300 epochs.
_base_ = './zoo.py'

optim_wrapper = dict(
    optimizer=dict(lr=1e-4 * 2048 / 256),  # Table A1, ViTs: base lr 1e-4 per 256 images
    clip_grad=dict(max_norm=5.0),  # Table A1, ViTs
)
