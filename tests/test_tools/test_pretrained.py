"""tools/train.py --pretrained: from a pre-training to a training on its backbone, or to a refusal."""

import os
import re

import pytest
import torch
from helpers.toy_training import read_log, tool
from helpers.toy_transfer import BACKBONES, RESNET, VIT, classification, write_settings
from mmengine.registry import MODELS

from a2mim_mm.checkpoints import load_checkpoint_file

train_tool = tool('train')
POOLED_VIT = {**VIT, 'img_size': 96, 'out_type': 'avg_featmap'}
SETTINGS = dict(
    resnet=classification(RESNET), vit=classification(POOLED_VIT, channels=24, fresh_params=('ln2.',))
)
NEW = dict(resnet=set(), vit={'ln2.weight', 'ln2.bias'})
INTERRUPTED = dict(custom_hooks=[dict(type='KeepStart'), dict(type='InterruptAt', epoch=1)])


@pytest.fixture
def train(run, tmp_path):
    """Writes a config and trains in w; returns exit status and stderr."""
    names = (f'{tmp_path.name}_{number}' for number in range(99))

    def run_main(settings, *args):
        config = write_settings(tmp_path, next(names), settings)
        return run(train_tool, config, '--work-dir', 'w', *args)

    return run_main


@pytest.fixture
def refuse(train, tmp_path):
    """Runs a training that must not start; returns the message."""

    def refused(settings, *args):
        status, message = train(settings, *args)
        assert status == 1 and 'Traceback' not in message and message.count('error: ') == 1
        assert not [*tmp_path.glob('w/start*'), *tmp_path.glob('w/*.pth')]
        return message.partition('error: ')[2]

    return refused


def weights(path, prefix=''):
    """The weights in a file whose names begin with a prefix, without it."""
    content = load_checkpoint_file(path)
    content = content.get('state_dict', content)
    return {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def row(text, title):
    """Number and names in a row of the table."""
    count, names = re.search(rf'^  {title} +(\d+)  (.*)$', text, re.MULTILINE).groups()
    return int(count), names


def backbone_of(settings, state_dict):
    """What a backbone itself makes of a state dict."""
    backbone = MODELS.build(settings['model']['backbone'])
    backbone.load_state_dict(state_dict, strict=False)
    return backbone.state_dict()


@pytest.mark.parametrize('kind', BACKBONES)
def test_training_starts_from_the_backbone_of_a_pretraining(train, pretrained, tmp_path, kind):
    settings = SETTINGS[kind]
    assert train(settings, '--work-dir', 'scratch')[0] == 0
    assert train(settings, '--pretrained', pretrained[kind])[0] == 0
    scratch, start = (weights(tmp_path / folder / 'start_0_0.pth') for folder in ('scratch', 'w'))
    backbone = weights(tmp_path / 'w' / 'start_0_0.pth', 'backbone.')
    source = weights(pretrained[kind], 'backbone.')
    new = NEW[kind]
    expected = backbone_of(settings, source)
    assert backbone.keys() == expected.keys() == source.keys() | new
    assert same(
        {name: value for name, value in backbone.items() if name not in new},
        {name: value for name, value in expected.items() if name not in new},
    )
    # All else is what this seed gives a training from scratch.
    rest = [name for name in start if not name.startswith('backbone.') or name.partition('.')[2] in new]
    assert same({name: start[name] for name in rest}, {name: scratch[name] for name in rest})
    assert {'head.fc.weight', 'head.fc.bias'} <= set(rest) and start['head.fc.weight'].std() > 0
    assert not same(start, scratch)

    log = read_log(tmp_path / 'w')
    assert f'starting from the weights in {pretrained[kind]}' in log
    assert log.count(f'backbone from {pretrained[kind]}\n') == 1
    resampled = {name for name in source if source[name].shape != backbone[name].shape}
    assert len(resampled) == dict(resnet=0, vit=4)[kind]
    assert row(log, 'resampled')[0] == len(resampled)
    assert row(log, 'loaded')[0] == len(source) - len(resampled)
    assert row(log, 'new') == (len(new), ', '.join(f'backbone.{name}' for name in expected if name in new))
    assert row(log, 'not in the checkpoint') == (0, '')
    outside = [name for name in weights(pretrained[kind]) if not name.startswith('backbone.')]
    assert row(log, 'left over') == (len(outside), ', '.join(outside)) and 'mask_token.token' in outside


def test_head_of_a_classifier_is_left_over(train, pretrained, tmp_path):
    """Also by a recipe that asks for a pre-training, where the command line says otherwise."""
    path, recipe = pretrained['resnet'], {**SETTINGS['resnet'], 'start': 'pretrained'}
    assert train(recipe, '--work-dir', 'first', '--cfg-options', 'start=scratch')[0] == 0
    trained = tmp_path / 'first' / 'epoch_2.pth'
    assert train(recipe, '--pretrained', trained)[0] == 0
    start, first = tmp_path / 'w' / 'start_0_0.pth', tmp_path / 'first' / 'start_0_0.pth'
    assert same(weights(start, 'backbone.'), weights(trained, 'backbone.'))
    assert same(weights(start, 'head.'), weights(first, 'head.'))
    assert not same(weights(start, 'head.'), weights(trained, 'head.'))
    status, message = train(recipe, '--pretrained', path, '--work-dir', 'v', '--cfg-options', 'start=scratch')
    assert status == 1 and f"has start='scratch': leave out {path}, or set start=pretrained\n" in message


@pytest.mark.parametrize('options', [['--resume'], []], ids=['both', 'resume'])
def test_resumed_weights_win(train, pretrained, tmp_path, options):
    path, recipe = pretrained['resnet'], {**SETTINGS['resnet'], 'start': 'pretrained'}
    status, message = train({**recipe, **INTERRUPTED}, '--pretrained', path, *options)
    assert status == 130 and '--resume' in message
    assert f'starting from the weights in {path}' in read_log(tmp_path / 'w')
    assert same(weights(tmp_path / 'w' / 'start_0_0.pth', 'backbone.'), weights(path, 'backbone.'))

    given = ['--pretrained', path] if options else []
    assert train(recipe, *given, '--resume')[0] == 0
    assert same(weights(tmp_path / 'w' / 'start_2_0.pth'), weights(tmp_path / 'w' / 'epoch_1.pth'))
    assert not same(weights(tmp_path / 'w' / 'epoch_1.pth', 'backbone.'), weights(path, 'backbone.'))
    log = read_log(tmp_path / 'w').partition('resuming from')[2]
    assert (f'epoch_1.pth, not starting from {path}' in log) == bool(options) and 'backbone from' not in log
    assert (tmp_path / 'w' / 'epoch_2.pth').exists()


def test_settings_of_the_config_are_heard(train, refuse, pretrained):
    vit, path = SETTINGS['vit'], ['--pretrained', pretrained['vit']]
    message = refuse({**vit, 'fresh_params': ()}, *path)
    assert ': 2 not in the checkpoint (backbone.ln2.weight, backbone.ln2.bias)\n' in message
    message = refuse({**vit, 'pretrained_parts': ('backbone', 'shared')}, *path)
    assert message.startswith("pretrained_parts: this ImageClassifier has no 'shared'; it has ")
    # On the command line as in the file:
    assert train({**vit, 'fresh_params': ()}, *path, '--cfg-options', "fresh_params=['ln2.']")[0] == 0


class Payload:
    """Pickles as a command."""

    def __reduce__(self):
        return os.system, ('touch payload',)


def encoder(path, **changes):
    """Write the checkpoint of an encoder like VIT but for the changes."""
    backbone = MODELS.build({**VIT, 'arch': {**VIT['arch'], **changes}})
    torch.save({f'backbone.{key}': value for key, value in backbone.state_dict().items()}, path)


@pytest.mark.parametrize(
    ('write', 'words'),
    [
        (lambda path: encoder(path, num_layers=5), '(layers.3.ln1.weight, layers.3.ln1.bias'),
        (lambda path: encoder(path, embed_dims=48), '(backbone.cls_token, '),
        (lambda path: torch.save(dict(state_dict={}), path), 'x.pth holds no weights'),
        (lambda path: None, 'there is no checkpoint at x.pth'),
        (lambda path: torch.save(dict(state_dict=Payload()), path), 'would call posix.system'),
    ],
    ids=['deeper', 'wider', 'empty', 'missing', 'command'],
)
def test_what_does_not_fill_the_backbone_is_refused(refuse, tmp_path, write, words):
    write(tmp_path / 'x.pth')
    assert words in refuse(SETTINGS['vit'], '--pretrained', 'x.pth')
    assert not (tmp_path / 'payload').exists()


def test_message_names_what_is_wrong_and_shows_the_table(refuse, tmp_path):
    encoder(tmp_path / 'x.pth', num_layers=2)
    first, *table, hint = refuse(SETTINGS['vit'], '--pretrained', 'x.pth').splitlines()
    assert first.startswith(
        'x.pth does not fill this ImageClassifier: 13 not in the checkpoint (backbone.layers.2.'
    )
    assert len(table) == 6 and row('\n'.join(table), 'not in the checkpoint')[0] == 13
    assert 'tools/convert_checkpoint.py' in hint


def test_empty_path(train, tmp_path):
    status, message = train(SETTINGS['resnet'], '--pretrained', '')
    assert status == 2 and '--pretrained: the path is empty' in message
    assert not (tmp_path / 'w').exists()
