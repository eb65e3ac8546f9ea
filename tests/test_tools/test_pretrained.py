"""tools/train.py --pretrained: from a pre-training to a training on its backbone, or to a refusal."""

import os
import pickle
import re
import subprocess
import sys

import pytest
import torch
from helpers.toy_training import ROOT, read_log, tool
from helpers.toy_transfer import (
    BACKBONES,
    RESNET,
    VIT,
    classification,
    draw_photos,
    pretraining,
    write_settings,
)
from mmengine.config import Config
from mmengine.registry import MODELS

from a2mim_mm.checkpoints import load_checkpoint_file
from a2mim_mm.engine.run_tool import run_tool
from a2mim_mm.engine.start import set_start

train_tool = tool('train')
POOLED_VIT = {**VIT, 'img_size': 96, 'out_type': 'avg_featmap'}
SETTINGS = dict(
    resnet=classification(RESNET), vit=classification(POOLED_VIT, channels=24, fresh_params=('ln2.',))
)
NEW = dict(resnet=set(), vit={'ln2.weight', 'ln2.bias'})
INTERRUPTED = dict(custom_hooks=[dict(type='KeepStart'), dict(type='InterruptAt', epoch=1)])


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
    """The checkpoints of real pre-trainings, by the kind of their backbone."""
    folder = tmp_path_factory.mktemp('pretraining')
    photos = tmp_path_factory.mktemp('photos')
    draw_photos(photos)
    for kind in BACKBONES:
        config = write_settings(folder, f'pretraining_{kind}', pretraining(kind, photos))
        train_tool.main([str(config), '--work-dir', str(folder / kind)])
    return {kind: folder / kind / 'epoch_1.pth' for kind in BACKBONES}


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Writes a config and runs the tool as its __main__ does; returns exit status and what stderr got."""
    monkeypatch.chdir(tmp_path)
    names = (f'{tmp_path.name}_{number}' for number in range(99))

    def run_main(settings, *args):
        config = write_settings(tmp_path, next(names), settings)
        capsys.readouterr()
        try:
            run_tool(lambda: train_tool.main([str(config), '--work-dir', 'w', *map(str, args)]))
            status = 0
        except SystemExit as end:
            status = end.code
        return status, capsys.readouterr().err

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


def test_head_of_a_classifier_is_left_over(train, tmp_path):
    assert train(SETTINGS['resnet'], '--work-dir', 'first')[0] == 0
    trained = tmp_path / 'first' / 'epoch_2.pth'
    assert train(SETTINGS['resnet'], '--pretrained', trained)[0] == 0
    start, first = tmp_path / 'w' / 'start_0_0.pth', tmp_path / 'first' / 'start_0_0.pth'
    assert same(weights(start, 'backbone.'), weights(trained, 'backbone.'))
    assert same(weights(start, 'head.'), weights(first, 'head.'))
    assert not same(weights(start, 'head.'), weights(trained, 'head.'))


def test_resumed_weights_win(train, pretrained, tmp_path):
    path = pretrained['resnet']
    status, message = train({**SETTINGS['resnet'], **INTERRUPTED}, '--pretrained', path, '--resume')
    assert status == 130 and '--resume' in message
    log = read_log(tmp_path / 'w')
    assert f'nothing to resume from in w, starting from the weights in {path}' in log
    assert same(weights(tmp_path / 'w' / 'start_0_0.pth', 'backbone.'), weights(path, 'backbone.'))

    assert train(SETTINGS['resnet'], '--pretrained', path, '--resume')[0] == 0
    assert same(weights(tmp_path / 'w' / 'start_2_0.pth'), weights(tmp_path / 'w' / 'epoch_1.pth'))
    assert not same(weights(tmp_path / 'w' / 'epoch_1.pth', 'backbone.'), weights(path, 'backbone.'))
    log = read_log(tmp_path / 'w').partition('resuming from')[2]
    assert f'epoch_1.pth, not starting from {path}' in log and 'backbone from' not in log
    assert (tmp_path / 'w' / 'epoch_2.pth').exists()


def test_two_sources_of_weights_exclude_each_other(refuse, pretrained):
    path = pretrained['resnet']
    both = {**SETTINGS['resnet'], 'load_from': str(path)}
    message = f'--pretrained and load_from={path} exclude each other\n'
    assert refuse(both, '--pretrained', path) == message
    assert refuse(both, '--pretrained', path, '--resume') == f'nothing to resume from in w, {message}'
    options = ['--pretrained', path, '--cfg-options', 'load_from=other.pth']
    assert '--pretrained and load_from=other.pth exclude' in refuse(SETTINGS['resnet'], *options)


def test_settings_of_the_config_are_heard(train, refuse, pretrained):
    vit = SETTINGS['vit']
    path = ['--pretrained', pretrained['vit']]
    message = refuse({**vit, 'fresh_params': ()}, *path)
    assert ': 2 not in the checkpoint (backbone.ln2.weight, backbone.ln2.bias)\n' in message
    message = refuse({**vit, 'fresh_params': ('ln2.', 'ln3.')}, *path)
    assert ': 1 listed in fresh_params, but not in the model (ln3.)\n' in message
    message = refuse({**vit, 'fresh_params': ('ln2.', 'ln1.')}, *path)
    assert ': 2 listed in fresh_params, but in the checkpoint (ln1.weight, ln1.bias)\n' in message
    message = refuse({**vit, 'pretrained_parts': ('backbone', 'shared')}, *path)
    assert message.startswith("pretrained_parts: this ImageClassifier has no 'shared'; it has ")
    # On the command line as in the file:
    assert train({**vit, 'fresh_params': ()}, *path, '--cfg-options', "fresh_params=['ln2.']")[0] == 0


def encoder(**changes):
    """The checkpoint of an encoder like VIT but for the changes."""
    arch = {**VIT['arch'], **changes}
    backbone = MODELS.build({**VIT, 'arch': arch})
    return dict(state_dict={f'backbone.{key}': value for key, value in backbone.state_dict().items()})


def decoder(path):
    return {key: value for key, value in weights(path).items() if not key.startswith('backbone.')}


class Payload:
    """Pickles as a command."""

    def __reduce__(self):
        return os.system, ('touch payload',)


@pytest.mark.parametrize(
    ('write', 'words'),
    [
        (
            lambda path, source: torch.save(encoder(num_layers=5), path),
            '(layers.3.ln1.weight, layers.3.ln1.bias',
        ),
        (lambda path, source: torch.save(encoder(num_layers=2), path), '(backbone.layers.2.ln1.weight, '),
        (lambda path, source: torch.save(encoder(embed_dims=48), path), '(backbone.cls_token, '),
        (lambda path, source: torch.save(encoder(embed_dims=12), path), '(backbone.cls_token, '),
        (
            lambda path, source: torch.save(decoder(source), path),
            'not in the checkpoint (backbone.cls_token, ',
        ),
        (lambda path, source: torch.save(dict(state_dict={}), path), 'x.pth holds no weights'),
        (lambda path, source: torch.save(dict(state_dict=3), path), 'no dict of weights'),
        (lambda path, source: torch.save([3], path), 'x.pth holds a list, not a dict of weights'),
        (lambda path, source: None, 'there is no checkpoint at x.pth'),
        (lambda path, source: path.mkdir(), 'x.pth is a folder'),
        (lambda path, source: path.touch(), 'x.pth is empty'),
        (
            lambda path, source: path.write_text('404: Not Found'),
            "no checkpoint: it begins with b'404: Not Found'",
        ),
        (lambda path, source: path.write_bytes(source.read_bytes()[:-99]), 'x.pth is damaged or cut short'),
        (lambda path, source: torch.save(dict(state_dict=Payload()), path), 'would call posix.system'),
        (lambda path, source: path.write_bytes(pickle.dumps(Payload(), 2)), 'would call posix.system'),
        (lambda path, source: path.write_bytes(pickle.dumps(dict(weight=[3.0]), 2)), 'x.pth is damaged'),
    ],
    ids=[
        'deeper',
        'shallower',
        'wider',
        'narrower',
        'decoder only',
        'empty state dict',
        'number',
        'list',
        'missing',
        'folder',
        'empty file',
        'text',
        'cut short',
        'command',
        'pickled command',
        'pickle',
    ],
)
def test_what_does_not_fill_the_backbone_is_refused(refuse, pretrained, tmp_path, write, words):
    write(tmp_path / 'x.pth', pretrained['vit'])
    assert words in refuse(SETTINGS['vit'], '--pretrained', 'x.pth')
    assert not (tmp_path / 'payload').exists()


def test_message_names_what_is_wrong_and_shows_the_table(refuse, tmp_path):
    torch.save(encoder(num_layers=2), tmp_path / 'x.pth')
    first, *table, hint = refuse(SETTINGS['vit'], '--pretrained', 'x.pth').splitlines()
    assert first.startswith(
        'x.pth does not fill this ImageClassifier: 13 not in the checkpoint (backbone.layers.2.'
    )
    assert len(table) == 6 and row('\n'.join(table), 'not in the checkpoint')[0] == 13
    assert 'tools/convert_checkpoint.py' in hint


def test_resnet_without_its_last_stage_takes_no_whole_one(refuse, pretrained):
    three = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
    settings = classification({**RESNET, **three}, channels=32)
    message = refuse(settings, '--pretrained', pretrained['resnet'])
    assert '5 left over of a deeper or other encoder (layer4.0.conv1.weight, ' in message


def test_all_ranks_start_from_it(pretrained, tmp_path):
    config = write_settings(tmp_path, 'ranks', SETTINGS['vit'])
    env = dict(
        PYTHON=sys.executable,
        PYTHONPATH=str(ROOT / 'tests'),
        CUDA_VISIBLE_DEVICES='',
        OMP_NUM_THREADS='1',
    )
    command = [
        ROOT / 'tools' / 'dist_train.sh',
        config,
        '2',
        '--work-dir',
        'w',
        '--pretrained',
        pretrained['vit'],
    ]
    done = subprocess.run(
        list(map(str, command)),
        cwd=tmp_path,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    ranks = [weights(tmp_path / 'w' / f'start_0_{rank}.pth') for rank in range(2)]
    assert same(*ranks)
    expected = backbone_of(SETTINGS['vit'], weights(pretrained['vit'], 'backbone.'))
    for name in expected.keys() - NEW['vit']:
        assert torch.equal(ranks[1][f'backbone.{name}'], expected[name])


def test_empty_path(train, tmp_path):
    status, message = train(SETTINGS['resnet'], '--pretrained', '')
    assert status == 2 and '--pretrained: the path is empty' in message
    assert not (tmp_path / 'w').exists()


# The start that a config asks for.

PATH, OTHER = 'pretrained.pth', 'resumed.pth'


@pytest.fixture
def start(tmp_path, monkeypatch):
    """What set_start says of a config in a work directory without a checkpoint, or with one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / OTHER).touch()

    def told(settings, resume=None, pretrained=None, done=False):
        (tmp_path / 'w').mkdir(exist_ok=True)
        note = tmp_path / 'w' / 'last_checkpoint'
        note.write_text(OTHER) if done else note.unlink(missing_ok=True)
        cfg = Config(dict(settings, work_dir='w'), cfg_text='text', filename='recipe.py')
        text = set_start(cfg, resume, pretrained)
        assert cfg.resume == text.startswith('resuming from')
        return text

    return told


@pytest.mark.parametrize('resume', [None, 'auto'])
def test_config_without_a_start_takes_any(start, resume):
    prefix = 'nothing to resume from in w, ' if resume else ''
    for settings in (dict(), dict(start=None)):
        assert start(settings, resume) == f'{prefix}starting from scratch'
        assert start(settings, resume, PATH) == f'{prefix}starting from the weights in {PATH}'
        loaded = dict(settings, load_from=PATH)
        assert start(loaded, resume) == f'{prefix}starting from the weights in {PATH}'


@pytest.mark.parametrize('resume', [None, 'auto'])
def test_config_that_asks_for_a_start_gets_it(start, resume):
    prefix = 'nothing to resume from in w, ' if resume else ''
    settings = dict(start='pretrained')
    assert start(settings, resume, PATH) == f'{prefix}starting from the weights in {PATH}'
    loaded = dict(settings, load_from=PATH)
    assert start(loaded, resume) == f'{prefix}starting from the weights in {PATH}'
    for settings in (dict(start='scratch'), dict(start='scratch', load_from=None)):
        assert start(settings, resume) == f'{prefix}starting from scratch'


@pytest.mark.parametrize('resume', [None, 'auto'])
def test_config_that_asks_for_another_start_is_refused(start, resume):
    prefix = 'nothing to resume from in w, ' if resume else ''
    for settings in (dict(start='pretrained'), dict(start='pretrained', load_from=None)):
        with pytest.raises(ValueError) as error:
            start(settings, resume)
        assert str(error.value) == prefix + (
            'config recipe.py starts from a pre-trained backbone: give --pretrained CHECKPOINT. '
            '--cfg-options start=scratch trains with the same recipe from random weights'
        )
    for settings, pretrained in (
        (dict(start='scratch'), PATH),
        (dict(start='scratch', load_from=PATH), None),
    ):
        with pytest.raises(ValueError) as error:
            start(settings, resume, pretrained)
        message = f"config recipe.py has start='scratch': leave out {PATH}, or set start=pretrained"
        assert str(error.value) == prefix + message


@pytest.mark.parametrize('value', ['pretrian', 'Scratch', '', True, ['scratch']])
def test_start_is_one_of_two(start, value):
    for pretrained in (None, PATH):
        with pytest.raises(ValueError, match="start must be 'pretrained' or 'scratch', got ") as error:
            start(dict(start=value), None, pretrained)
        assert str(error.value).endswith(f'got {value!r}')


@pytest.mark.parametrize('kind', ['pretrained', 'scratch'])
def test_resuming_wins_over_the_start(start, kind):
    settings = dict(start=kind)
    assert start(settings, 'auto', done=True) == f'resuming from {OTHER}'
    assert start(settings, OTHER) == f'resuming from {OTHER}'
    assert start(dict(settings, resume=True), done=True) == f'resuming from {OTHER}'
    assert start(dict(settings, resume=True, load_from=OTHER)) == f'resuming from {OTHER}'
    # A script may give both, every time.
    assert start(settings, 'auto', PATH, done=True) == f'resuming from {OTHER}, not starting from {PATH}'


def test_recipe_from_a_pretraining_and_its_twin(train, refuse, pretrained, tmp_path):
    path, recipe = pretrained['resnet'], {**SETTINGS['resnet'], 'start': 'pretrained'}
    for args in ((), ('--resume',)):
        message = refuse(recipe, *args)
        assert '.py starts from a pre-trained backbone: give --pretrained CHECKPOINT. ' in message
    twin = {**recipe, 'start': 'scratch'}
    message = f"has start='scratch': leave out {path}, or set start=pretrained\n"
    assert message in refuse(twin, '--pretrained', path, '--resume')
    assert message in refuse(recipe, '--pretrained', path, '--cfg-options', 'start=scratch')
    assert "or 'scratch', got 'pretrain'" in refuse(recipe, '--cfg-options', 'start=pretrain')

    # As the first message says:
    assert train(recipe, '--work-dir', 'random', '--cfg-options', 'start=scratch')[0] == 0
    assert train(twin, '--work-dir', 'twin')[0] == 0
    assert same(*(weights(tmp_path / folder / 'epoch_2.pth') for folder in ('random', 'twin')))


def test_recipe_goes_on_without_its_pretraining(train, pretrained, tmp_path):
    recipe = {**SETTINGS['resnet'], 'start': 'pretrained'}
    assert train({**recipe, **INTERRUPTED}, '--pretrained', pretrained['resnet'])[0] == 130
    assert train(recipe, '--resume')[0] == 0
    assert same(weights(tmp_path / 'w' / 'start_2_0.pth'), weights(tmp_path / 'w' / 'epoch_1.pth'))
    assert (tmp_path / 'w' / 'epoch_2.pth').exists()
