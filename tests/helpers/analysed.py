"""Photos of three classes, and small classifiers with random weights, whose BatchNorm has seen images."""

import cv2
import numpy as np
import torch
from helpers.toy_transfer import BACKBONES, NORMALISATION, SIZE, VIT, write_settings
from mmengine.registry import MODELS, init_default_scope

CLASSES = dict(ant=7, bee=5, cow=6)  # images
HEADS = dict(resnet=64, vit=24)
PIPELINE = [
    dict(type='a2mim_mm.LoadImage'),
    dict(type='ResizeEdge', scale=70, edge='short'),
    dict(type='CenterCrop', crop_size=SIZE),
    dict(type='PackInputs'),
]


def draw_classes(folder):
    """Write CLASS/*.png; a class has a colour, which does not always show."""
    noise = np.random.default_rng(0)
    for label, (name, count) in enumerate(CLASSES.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            coarse = noise.integers(0, 200, (6, 8, 3), dtype=np.uint8)
            coarse[..., label] += 50
            cv2.imwrite(str(folder / name / f'{index}.png'), cv2.resize(coarse, (120, 90)))
    return folder


def write_classifier(folder, kind, photos, seed=0):
    """Config and checkpoint of a classifier; the checkpoint tells its classes, as those of trainings do."""
    backbone = dict(VIT, out_type='avg_featmap', final_norm=False) if kind == 'vit' else BACKBONES[kind]
    loader = dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='a2mim_mm.LabelledImages', data_root=str(photos), pipeline=PIPELINE, max_refetch=0),
        collate_fn=dict(type='default_collate'),
    )
    settings = dict(
        default_scope='mmpretrain',
        custom_imports=dict(imports=['a2mim_mm'], allow_failed_imports=False),
        model=dict(
            type='ImageClassifier',
            backbone=backbone,
            neck=None if kind == 'vit' else dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=len(CLASSES), in_channels=HEADS[kind]),
        ),
        data_preprocessor=dict(num_classes=len(CLASSES), **NORMALISATION),
        test_dataloader=loader,
        test_cfg=dict(),
        test_evaluator=dict(type='Accuracy', topk=(1,)),
    )
    config = write_settings(folder, f'analysed_{kind}', settings)
    init_default_scope('mmpretrain')
    torch.manual_seed(seed)
    model = MODELS.build(dict(settings['model'], data_preprocessor=settings['data_preprocessor']))
    model.init_weights()
    torch.nn.init.normal_(model.head.fc.weight)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)  # mmpretrain begins the last of a block at 0
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    checkpoint = folder / f'{kind}_{seed}.pth'
    meta = dict(dataset_meta=dict(classes=tuple(CLASSES)))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    return str(config), str(checkpoint)
