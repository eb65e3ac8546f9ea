# What every pre-training shares: hooks, log, environment.
default_scope = 'mmpretrain'
custom_imports = dict(imports=['a2mim_mm'], allow_failed_imports=False)

# bfloat16 mixed precision on GPUs, float32 on CPUs; --amp and --no-amp of tools/train.py force either.
amp_dtype = 'bfloat16'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)

custom_hooks = [
    dict(type='a2mim_mm.ThroughputHook'),
    dict(type='a2mim_mm.UnreadableImagesHook', max_share=0.001, min_count=10),
    dict(type='a2mim_mm.ReconstructionHook', interval=10),
]

env_cfg = dict(
    cudnn_benchmark=True,  # all inputs have one size
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)

log_level = 'INFO'
load_from = None
resume = False

# Every crop, flip and mask follows from this seed, the epoch and the index of the image.
randomness = dict(seed=0)
