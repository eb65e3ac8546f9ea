# What every pre-training and every classifier shares: hooks, log, environment.
default_scope = 'mmpretrain'
custom_imports = dict(imports=['a2mim_mm'])

# Training runs in bfloat16 on GPUs and in float32 on CPUs; --amp and --no-amp of tools/train.py force either.
amp_dtype = 'bfloat16'

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=100),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    save_backbone=dict(type='a2mim_mm.SaveBackboneHook'),  # of pre-trainings
)

custom_hooks = [
    dict(type='a2mim_mm.ThroughputHook'),
    dict(type='a2mim_mm.UnreadableImagesHook'),
    dict(type='a2mim_mm.ReconstructionHook', interval=10),
]

env_cfg = dict(cudnn_benchmark=True)  # all inputs have one size

vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)

# Every crop, flip and mask follows from this seed, the epoch and the index of the image.
randomness = dict(seed=0)
