# A2MIM, ViT-B/16, ImageNet-1K, 800 epochs (Tables 2, 4 and A1): 8 GPUs of 80 GB x 256 images = 2048.
# Smaller cards: --cfg-options train_dataloader.batch_size=64 optim_wrapper.accumulative_counts=4
_base_ = [
    '../_base_/models/a2mim_vit.py',
    '../_base_/datasets/imagenet_mim.py',
    '../_base_/schedules/adamw_cosine.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(
    optimizer=dict(lr=1e-4 * 2048 / 256),  # Table A1, ViTs: base lr 1e-4 per 256 images
    clip_grad=dict(max_norm=5.0),  # Table A1, ViTs
)

train_cfg = dict(max_epochs=800)
