"""From a pre-training to a classifier by the shipped recipes, shrunk, on three folders of photos."""

import json
import os
import re

import cv2
import numpy as np
import pytest
import torch
from helpers.toy_training import ROOT, read_log, tool
from helpers.toy_transfer import VIT
from mmpretrain.models.utils import ClsDataPreprocessor

from a2mim_mm.checkpoints import load_checkpoint_file

train_tool, test_tool = tool('train'), tool('test')
CLASSES = dict(ant=(9, 3), bee=(8, 4), cow=(9, 5))  # images for training and for validation
FOLDER = ROOT / 'configs' / 'classification'
CPU = dict(num_workers=0, persistent_workers=False, batch_size=8)
INTERRUPT = dict(type='InterruptAt', epoch=1)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """train/CLASS/*.png and val/CLASS/*.png; a class has a colour."""
    folder, noise = tmp_path_factory.mktemp('classes'), np.random.default_rng(0)
    for label, (name, counts) in enumerate(CLASSES.items()):
        for split, count in zip(('train', 'val'), counts, strict=True):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                coarse = noise.integers(0, 120, (6, 8, 3), dtype=np.uint8)
                coarse[..., label] += 120
                cv2.imwrite(str(folder / split / name / f'{index}.png'), cv2.resize(coarse, (60, 50)))
    return folder


class Workplace:
    """Writes configs that inherit shipped ones, and runs the tools as their __main__ does."""

    def __init__(self, folder, photos, run):
        self.folder, self.run, self.count = folder, run, 0
        self.data = {
            f'{split}_dataloader': dict(
                CPU, dataset=dict(data_root=str(photos / ('train' if split == 'train' else 'val')))
            )
            for split in ('train', 'val', 'test')
        }

    def config(self, base, hooks=(), **settings):
        """A config on `base`, with what it keeps its first weights by, and further hooks."""
        self.count += 1  # each run needs its own name
        path = self.folder / f'{self.folder.name}_{self.count}.py'
        merged = {**self.data, 'default_hooks': dict(logger=dict(interval=1)), **settings}
        lines = [f'_base_ = {str(FOLDER / base)!r}', *(f'{key} = {value!r}' for key, value in merged.items())]
        added = ''.join(f', {hook!r}' for hook in (dict(type='KeepStart'), *hooks))
        lines.append(f'custom_hooks = [*_base_.custom_hooks{added}]')
        path.write_text('\n'.join(lines) + '\n')
        return path

    def train(self, config, *args):
        status, message = self.run(train_tool, config, '--work-dir', 'w', *args)
        assert status in (0, 130), message
        return status

    def refuse(self, config, *args):
        """The message of a training that must not take a step."""
        status, message = self.run(train_tool, config, '--work-dir', 'w', *args)
        assert status == 1 and 'Traceback' not in message and message.count('error: ') == 1
        assert not [*self.folder.glob('w/start*'), *self.folder.glob('w/*.pth')]
        return message.partition('error: ')[2]

    def assert_test_repeats_validation(self, config, epoch, *args):
        """The accuracy in percent that training logged last is what tools/test.py writes."""
        rows = [
            json.loads(line) for path in self.folder.glob('w/*/vis_data/scalars.json') for line in open(path)
        ]
        logged = [row['accuracy/top1'] for row in rows if row.get('step') == epoch and 'accuracy/top1' in row]
        arguments = (config, f'w/epoch_{epoch}.pth', '--work-dir', 'test', '--out', 'metrics.json', *args)
        status, message = self.run(test_tool, *arguments)
        assert status == 0, message
        metrics = json.loads((self.folder / 'metrics.json').read_text())
        assert metrics == {'accuracy/top1': pytest.approx(logged[-1])}

    def weights(self, name, prefix='', part='state_dict'):
        return weights(self.folder / 'w' / name, prefix, part)


@pytest.fixture
def work(tmp_path, photos, run):
    return Workplace(tmp_path, photos, run)


def weights(path, prefix='', part='state_dict'):
    """The weights in a file whose names begin with a prefix, without it."""
    content = load_checkpoint_file(path)
    content = content.get(part, content)
    return {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}


def equal(first, second):
    """Names of the tensors that are the same bits in both."""
    return {name for name in first.keys() & second.keys() if torch.equal(first[name], second[name])}


def row(text, title):
    """Number and names in a row of the table."""
    count, names = re.search(rf'^  {title} +(\d+)  (.*)$', text, re.MULTILINE).groups()
    return int(count), names


def sized(train, test, resized):
    """Options for the sizes of images, in training and in testing."""
    options = [f'train_dataloader.dataset.pipeline.1.scale={train}']
    for split in ('val', 'test'):
        pipeline = f'{split}_dataloader.dataset.pipeline'
        options += [f'{pipeline}.1.scale={resized}', f'{pipeline}.2.crop_size={test}']
    return ['--cfg-options', *options]


def shrunk(backbone, channels, **changes):
    """What makes a recipe small: its model, three classes, two epochs."""
    return dict(
        model=dict(backbone=backbone, head=dict(in_channels=channels, num_classes=3)),
        data_preprocessor=dict(num_classes=3),
        val_evaluator=dict(topk=(1,)),
        test_evaluator=dict(topk=(1,)),
        train_cfg=dict(max_epochs=2),
        **changes,
    )


def vit(**changes):
    """At the size of its pre-training unless asked otherwise."""
    return shrunk({**dict(arch=dict(VIT['arch'], _delete_=True), img_size=64), **changes}, 24)


RESNET = shrunk(dict(depth=18, stem_channels=8, base_channels=8), 64)
VIT_SIZES, RESNET_SIZES = sized(32, 32, 36), sized(32, 64, 67)
RECIPES = {
    'vit': ('vit-s_a2mim_ft-100e.py', vit(img_size=32), VIT_SIZES),
    'resnet': ('r50_a2mim_rsb-a3_ft-100e.py', RESNET, RESNET_SIZES),
}
NEW = dict(vit=['ln2.weight', 'ln2.bias'], resnet=[])
FIRST = dict(vit='patch_embed.projection.weight', resnet='conv1.weight')
LEFT_OVER = dict(vit=['ln1.weight', 'ln1.bias'], resnet=[])  # the norm of each patch token


@pytest.mark.parametrize('kind', RECIPES)
def test_fine_tuning(work, pretrained, kind):
    """It is stopped after an epoch and resumed without its pre-training."""
    base, changes, sizes = RECIPES[kind]
    config = work.config(base, **changes)
    stopped = work.config(base, hooks=[INTERRUPT], **changes)
    assert work.train(stopped, '--pretrained', pretrained[kind], *sizes) == 130
    log, source = read_log('w'), weights(pretrained[kind], 'backbone.')
    start = work.weights('start_0_0.pth', 'backbone.')
    assert row(log, 'new') == (len(NEW[kind]), ', '.join(f'backbone.{name}' for name in NEW[kind]))
    assert row(log, 'not in the checkpoint') == (0, '')
    names = row(log, 'left over')[1].split(', ')
    assert names[: len(LEFT_OVER[kind])] == LEFT_OVER[kind] and 'mask_token.token' in names
    taken = source.keys() - {*LEFT_OVER[kind]}
    assert start.keys() == taken | {*NEW[kind]}
    resampled = {name for name in taken if source[name].shape != start[name].shape}
    assert len(resampled) == dict(vit=4, resnet=0)[kind]  # position embedding, 3 tables: 64 to 32 pixels
    assert equal(start, source) == taken - resampled >= {FIRST[kind]}

    assert work.train(config, '--resume', *sizes) == 0
    assert 'backbone from' not in read_log('w').partition('resuming from')[2]
    begun, first, last = (work.weights(f'{name}.pth') for name in ('start_3_0', 'epoch_1', 'epoch_2'))
    assert equal(begun, first) == begun.keys() == first.keys()
    assert not equal(last, first) & {'head.fc.weight', f'backbone.{FIRST[kind]}'}


PROBES = {
    'vit': ('vit-s_a2mim_linear-90e.py', vit(frozen_stages=3), sized(64, 64, 73)),
    'resnet': ('r50_a2mim_linear-100e.py', RESNET, RESNET_SIZES),
}
PROBES['vit'][1]['model']['neck'] = [
    dict(type='GlobalAveragePooling'),
    dict(type='ClsBatchNormNeck', input_features=24),
]


@pytest.mark.parametrize('kind', PROBES)
def test_linear_probe_leaves_the_backbone_alone(work, pretrained, kind):
    base, changes, sizes = PROBES[kind]
    options = [*sizes, 'train_cfg.max_epochs=1']
    assert work.train(work.config(base, **changes), '--pretrained', pretrained[kind], *options) == 0
    source, saved = weights(pretrained[kind], 'backbone.'), work.weights('epoch_1.pth')
    assert kind == 'vit' or {'bn1.running_mean', 'bn1.num_batches_tracked'} <= source.keys()
    backbone = work.weights('epoch_1.pth', 'backbone.')
    assert equal(backbone, source) == source.keys() == backbone.keys()
    start = work.weights('start_0_0.pth')
    assert start.keys() - equal(saved, start) >= {'head.fc.weight', 'head.fc.bias'}


def test_averaged_weights_start_from_the_pretraining(work, pretrained):
    """Mmengine saves the average as state_dict, and the trained weights as ema_state_dict."""
    momentum = 0.25
    changes = dict(
        vit(img_size=32, layer_scale_init_value=0.0),  # the toy's pre-training has no layer scale
        param_scheduler=None,
        auto_scale_lr=dict(enable=False),
        optim_wrapper=dict(optimizer=dict(lr=0.01)),
    )
    config = work.config('official/vit-b_a2mim_ft-100e_official.py', **changes)
    options = [*VIT_SIZES, 'train_dataloader.dataset.indices=[0,3,6,9,12,15,18,21]']  # one step an epoch
    options.append(f'custom_hooks.3.momentum={momentum}')
    path = pretrained['vit']
    assert work.train(config, '--pretrained', path, *options) == 0

    def averaged(epoch):
        return work.weights(f'epoch_{epoch}.pth')

    def trained(epoch):
        return work.weights(f'epoch_{epoch}.pth', 'module.', part='ema_state_dict')

    def assert_average(epoch):
        before, now, average = averaged(epoch - 1), trained(epoch), averaged(epoch)
        for name, value in average.items():
            expected = before[name] + momentum * (now[name] - before[name])
            assert torch.allclose(value, expected, atol=1e-7), name
        assert not equal(average, now) & {'head.fc.weight', 'backbone.ln2.weight'}

    start, source = work.weights('start_0_0.pth'), weights(path, 'backbone.')
    name = 'layers.0.ffn.layers.0.0.weight'
    assert torch.equal(start[f'backbone.{name}'], source[name])
    assert equal(averaged(1), trained(1)) == averaged(1).keys()  # the first step is taken over whole
    moved = (averaged(1)[f'backbone.{name}'] - source[name]).abs().max()
    assert 0 < moved < 0.02 < source[name].abs().max()  # a step of Adam is lr at most
    assert_average(2)
    work.assert_test_repeats_validation(config, 2, *options)

    assert work.train(config, '--resume', *options, 'train_cfg.max_epochs=3') == 0
    begun = work.weights('start_2_0.pth')
    assert equal(begun, trained(2)) == begun.keys() and len(equal(begun, averaged(2))) < len(begun)
    assert_average(3)
    assert work.weights('epoch_3.pth', part='ema_state_dict')['steps'] == 3


OWN_OPTIONS = [
    *RESNET_SIZES,
    *(
        f'{split}_dataloader.{key}={value}'
        for split in ('train', 'val', 'test')
        for key, value in CPU.items()
    ),
    'model.backbone.depth=18',
    'model.backbone.stem_channels=8',
    'model.backbone.base_channels=8',
    'model.head.in_channels=64',
    'train_cfg.max_epochs=1',
    'default_hooks.logger.interval=1',
]


def test_own_folders(work, photos, pretrained, monkeypatch):
    """Other classes than the head's end in one line; images are smaller in training than in testing."""
    text = (FOLDER / 'custom_folders.py').read_text()
    for name, value in dict(data_root=str(photos), num_classes=3).items():
        text, count = re.subn(rf'^{name} = .*$', f'{name} = {value!r}', text, flags=re.MULTILINE)
        assert count == 1, name
    config = work.folder / f'{work.folder.name}_own.py'
    config.write_text(text.replace("_base_ = './", f"_base_ = '{FOLDER}/"))
    start = ['--pretrained', pretrained['resnet'], *OWN_OPTIONS]
    four = [*start, 'model.head.num_classes=4', 'data_preprocessor.num_classes=4']
    assert work.refuse(config, *four).startswith(
        'train_dataloader has 3 classes (ant, bee, cow), model.head 4'
    )
    two = work.folder / 'two'
    two.mkdir()
    for name, link in dict(ant='ant', bee='bee', cat='cow').items():
        os.symlink(photos / 'val' / link, two / name)
    message = work.refuse(config, *start, f'val_dataloader.dataset.data_root={two}')
    assert 'val_dataloader 3; only one of them has cat, cow ' in message

    seen, forward = [], ClsDataPreprocessor.forward

    def noted(self, data, training=False):
        batch = forward(self, data, training)
        seen.append((training, len(batch['inputs']), *batch['inputs'].shape[2:]))
        return batch

    monkeypatch.setattr(ClsDataPreprocessor, 'forward', noted)
    assert work.train(config, *start) == 0
    # 26 images: the two that do not fill a batch are dropped in training only.
    assert seen == [(True, 8, 32, 32)] * 3 + [(False, 8, 64, 64), (False, 4, 64, 64)]
    assert work.weights('epoch_1.pth')['head.fc.weight'].shape == (3, 64)
    work.assert_test_repeats_validation(config, 1, *OWN_OPTIONS)
    assert [path.name for path in work.folder.glob('w/best*')] == ['best_accuracy_top1_epoch_1.pth']
