"""The config in a checkpoint is read as data: it builds networks, and nothing it says is run or imported."""

import sys

import pytest
from helpers.algorithms import build as build_algorithm
from mmengine.config import Config
from torch import nn

from a2mim_mm.checkpoints.errors import CheckpointError
from a2mim_mm.checkpoints.load import load_network
from a2mim_mm.checkpoints.saved_config import check_network, read_saved_config

RESNET = dict(type='ResNet', depth=18)


def checkpoint(text):
    return dict(meta=dict(cfg=text))


def build_network(cfg, source):
    """As `load_backbone` and `load_model` do, without weights to load."""
    check_network(cfg, source)
    return load_network(cfg, {}, source, fill=lambda *_: None)


def network(**kwargs):
    return build_network(dict(RESNET, **kwargs), 'a.pth')


def test_what_mmengine_writes_is_read_back(root):
    cfg = Config.fromfile(root / 'configs/selfsup/official/a2mim_vit-b.py')
    saved = read_saved_config(checkpoint(cfg.pretty_text), 'a.pth')
    assert set(saved) == {'model', 'data_preprocessor', 'train_dataloader'}
    assert saved['model']['mask_token'] == cfg.model.mask_token.to_dict()
    assert saved['model']['backbone'] == cfg.model.backbone.to_dict()
    assert saved['data_preprocessor']['mean'] == [123.675, 116.28, 103.53]


def test_keys_that_are_no_names_and_negative_numbers_are_read():
    saved = read_saved_config(checkpoint("model = dict(a={'b-c': -1.5, 2: (None, True)})"), 'a.pth')
    assert saved == dict(model=dict(a={'b-c': -1.5, 2: [None, True]}))


def test_mappings_in_the_form_of_mmengine_are_read():
    cfg = Config(dict(model=dict(a={'b.c': [dict(d={'e-f': 1}, g=2)]})))
    saved = read_saved_config(checkpoint(cfg.pretty_text), 'a.pth')
    assert saved == dict(model=dict(a={'b.c': [dict(d={'e-f': 1}, g=2)]}))


def test_other_sections_are_not_looked_at():
    saved = read_saved_config(checkpoint('optim_wrapper = dict(lr=inf)\nmodel = dict(a=1)'), 'a.pth')
    assert saved == dict(model=dict(a=1))


@pytest.mark.parametrize(
    'expression',
    [
        "__import__('os').system('touch {file}')",
        "dict(a=open('{file}', 'w'))",
        "dict([('a', open('{file}', 'w'))])",
        "[x for x in [open('{file}', 'w')]]",
        "(lambda: open('{file}', 'w'))()",
        'dict(a=f\'{{open("{file}", "w")}}\')',
        "dict(**dict(a=1), b=open('{file}', 'w'))",
        "{{**dict(a=open('{file}', 'w'))}}",
        "dict({{'a': open('{file}', 'w')}})",
        'dict(dict(a=1))',
        '{{[1]: 2}}',
        "dict([('a', 1)])",
        'dict(a=' + '(' * 5000 + ')' * 5000 + ')',
        'dict(a=' + '-' * 100_000 + '1)',
        'dict(a=',
        'model',
        '3',
    ],
)
def test_anything_but_values_is_refused_and_not_run(expression, tmp_path):
    file = tmp_path / 'written'
    with pytest.raises(CheckpointError, match=r'a\.pth'):
        read_saved_config(
            checkpoint(
                'model = ' + expression.replace('{file}', str(file)).replace('{{', '{').replace('}}', '}')
            ),
            'a.pth',
        )
    assert not file.exists()


@pytest.mark.parametrize(
    'content', [{}, dict(meta=None), dict(meta={}), dict(meta=dict(cfg=3)), dict(state_dict={})]
)
def test_a_checkpoint_without_a_config_says_what_to_do(content):
    with pytest.raises(CheckpointError, match='backbone=dict'):
        read_saved_config(content, 'a.pth')


def test_registered_networks_are_built():
    assert isinstance(network(norm_cfg=dict(type='BN')), nn.Module)
    assert isinstance(build_network(build_algorithm_config(), 'a.pth'), type(build_algorithm('resnet')))


def build_algorithm_config():
    return dict(
        type='a2mim_mm.A2MIM',
        data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[1, 2, 3], std=[1, 2, 3]),
        backbone=RESNET,
        neck=dict(type='SimMIMLinearDecoder', in_channels=512, encoder_stride=32),
        head=dict(
            type='a2mim_mm.A2MIMHead',
            loss_spa=dict(type='PixelReconstructionLoss', criterion='L1', channel=3),
        ),
        mask=dict(type='a2mim_mm.RandomPatchMask', patch_size=32),
        mask_token=None,
    )


@pytest.mark.parametrize(
    'kind',
    [
        'subprocess.Popen',
        'mmpretrain.subprocess.Popen',
        'a2mim_mm.subprocess.Popen',
        'mmengine.runner.Runner',
        'unheard_of_module',
        'unheard_of_module.Thing',
        'CLIPGenerator',  # registered, but reads a file while it is built
        'ImageClassifier',  # registered, but no part of a network that is needed here
        'TIMMBackbone',  # registered, but its arguments name what timm imports, opens or downloads
        None,
        3,
        ['ResNet'],
    ],
)
def test_types_that_are_no_registered_networks_are_refused(kind, tmp_path, monkeypatch):
    (tmp_path / 'unheard_of_module.py').write_text(f'open({str(tmp_path / "imported")!r}, "w")')
    monkeypatch.syspath_prepend(tmp_path)
    for cfg in (
        dict(type=kind),
        dict(RESNET, norm_cfg=dict(type=kind)),
        dict(RESNET, a=[dict(b=dict(type=kind))]),
    ):
        with pytest.raises(CheckpointError, match='not registered as part of a network'):
            build_network(cfg, 'a.pth')
    assert 'unheard_of_module' not in sys.modules
    assert not (tmp_path / 'imported').exists()


def test_scopes_are_not_imported(tmp_path, monkeypatch):
    """mmengine imports SCOPE.registry for an entry ``_scope_``."""
    package = tmp_path / 'unheard_of_package'
    package.mkdir()
    for name in ('__init__', 'registry'):
        (package / f'{name}.py').write_text(f'open({str(tmp_path / "imported")!r}, "w")')
    monkeypatch.syspath_prepend(tmp_path)
    text = (
        "model = dict(backbone=dict(_scope_='unheard_of_package', type='ResNet', depth=18, "
        "norm_cfg=dict(type='BN', _scope_='unheard_of_package')))"
    )
    cfg = read_saved_config(checkpoint(text), 'a.pth')['model']['backbone']
    assert cfg == dict(RESNET, norm_cfg=dict(type='BN'))
    build_network(cfg, 'a.pth')
    assert not (tmp_path / 'imported').exists()


def test_other_sources_of_weights_are_left_out():
    text = (
        "model = dict(backbone=dict(type='ResNet', depth=18, pretrained='http://x', "
        "init_cfg=dict(type='Pretrained', checkpoint='http://x')), neck=[dict(checkpoint_path='x', a=1)])"
    )
    assert read_saved_config(checkpoint(text), 'a.pth')['model'] == dict(backbone=RESNET, neck=[dict(a=1)])


def test_wrong_arguments_are_named():
    with pytest.raises(CheckpointError, match=r'a\.pth cannot be built.*depth'):
        network(depth=17)
    with pytest.raises(CheckpointError, match=r'a\.pth cannot be built.*wings'):
        network(wings=2)
    with pytest.raises(CheckpointError, match=r'a\.pth cannot be built: RuntimeError'):
        network(base_channels=-3)


def timm_network(model_name, **options):
    text = f'model = {dict(backbone=dict(type="a2mim_mm.TimmBackbone", model_name=model_name, **options))!r}'
    return build_network(read_saved_config(checkpoint(text), 'a.pth')['model']['backbone'], 'a.pth')


def test_networks_of_timm_are_built_without_a_download(monkeypatch):
    timm, asked = pytest.importorskip('timm'), []
    for module, name in (
        (timm.models._builder, 'load_pretrained'),
        (timm.models._factory, 'load_checkpoint'),
    ):
        monkeypatch.setattr(module, name, lambda *_, name=name, **__: asked.append(name))
    network = timm_network('resnet10t', pretrained=True, checkpoint_path='/some/file')
    assert asked == [] and hasattr(network, 'layer4')
    timm.create_model('resnet10t', pretrained=True, checkpoint_path='/some/file')
    assert asked == ['load_pretrained', 'load_checkpoint']


@pytest.mark.parametrize(
    ('model_name', 'options'),
    [
        ('hf-hub:someone/model', {}),
        ('hf_hub:someone/model', {}),
        ('local-dir:/tmp', {}),
        ('resnet10t', dict(pretrained_cfg=dict(file='/some/file'))),
        ('resnet10t', dict(cache_dir='/some/folder')),
        ('resnet10t', dict(norm_layer='os.system')),
    ],
)
def test_networks_of_timm_are_not_looked_for_elsewhere(model_name, options):
    pytest.importorskip('timm')
    with pytest.raises(CheckpointError, match='the network in a.pth cannot be built: InputError'):
        timm_network(model_name, **options)
