"""Conversions from file to file: proved, whole or not there, reported, and loaded by whom they are for."""

import hashlib
import importlib
import itertools
import json
import os
import pickle
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
import torchvision
from helpers import peers
from helpers.toy_training import tool
from mmengine.config import Config
from safetensors.torch import load_file, save_file
from torch import nn

from a2mim_mm import libraries
from a2mim_mm.checkpoints import install_safe_loader, load_checkpoint_file
from a2mim_mm.checkpoints.backbone import load_pretrained
from a2mim_mm.checkpoints.load import build_network as build_backbone
from a2mim_mm.checkpoints.saved_config import read_saved_config
from a2mim_mm.convert import TARGETS, ConversionError, convert, convert_checkpoint, verify
from a2mim_mm.convert.naming import Naming
from a2mim_mm.engine.run_tool import run_tool

SUFFIXES = {'detectron2': '.pkl', 'onnx': '.onnx', 'huggingface': ''}
HEADS = f'heads={peers.HEADS}'
NETWORKS = {
    'resnet': lambda: peers.torchvision_resnet(18),
    'vit': lambda: peers.randomised(peers.timm_vit(num_classes=3, init_values=0.1)),
    'beit': lambda: peers.randomised(
        peers.mm_beit(use_rel_pos_bias=False, use_shared_rel_pos_bias=True, use_abs_pos_emb=False)
    ),
}
HELD = {
    'resnet': ('mmpretrain', 'mmdet', 'mmseg', 'timm', 'torchvision', 'detectron2', 'huggingface', 'onnx'),
    'vit': ('mmpretrain', 'mmdet', 'mmseg', 'timm', 'huggingface', 'onnx'),
    'beit': ('mmpretrain', 'mmseg', 'timm'),
}
CONVERSIONS = [(source, to) for source in NETWORKS for to in HELD[source]]


def quietly(source, target, to, **options):
    """A conversion whose log is not read; of the ViT here, its heads are told."""
    if Path(source).stem == 'vit':
        options = dict(arch=HEADS) | options
    return convert_checkpoint(source, target, to, **dict(log=lambda line: None) | options)


@pytest.fixture(scope='module', autouse=True)
def small_images():
    """Lets CNNs be compared by small images, in an eighth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, '_CNN_SIZE', peers.SIZE)
        yield


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
    """Files of three libraries."""
    folder = tmp_path_factory.mktemp('sources')
    files = {name: folder / f'{name}.pth' for name in NETWORKS}
    for name, file in files.items():
        weights = peers.weights_of(NETWORKS[name]())
        torch.save(dict(model=weights, epoch=3) if name == 'vit' else weights, file)
    return files


@pytest.fixture(scope='module')
def converted(sources, tmp_path_factory):
    """Makes a conversion once: path, report, and what was logged."""
    folder, done = tmp_path_factory.mktemp('converted'), {}

    def once(source, to):
        if (source, to) not in done:
            path, log = folder / f'{source}_{to}{SUFFIXES.get(to, ".safetensors")}', []
            report = quietly(sources[source], path, to, log=log.append)
            done[source, to] = path, report, '\n'.join(log)
        return done[source, to]

    return once


@pytest.fixture
def vit(sources):
    """A file of timm's ViT."""
    return sources['vit']


def left_in(folder):
    """Names of all that is in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


def names_in(path):
    """Names of the weights in what was written."""
    if path.suffix == '.pkl':
        return pickle.loads(path.read_bytes())['model'].keys()
    return load_file(path / 'model.safetensors' if path.is_dir() else path).keys()


@pytest.mark.parametrize(('source', 'to'), CONVERSIONS)
def test_the_report_says_what_was_done(sources, converted, source, to):
    path, report, log = converted(source, to)
    assert json.loads(Path(f'{path}.report.json').read_text()) == json.loads(json.dumps(report))
    assert report['source']['file'] == sources[source].name
    assert report['source']['sha256'] == hashlib.sha256(sources[source].read_bytes()).hexdigest()
    assert report['source']['format'] == ('mmpretrain-backbone' if source == 'beit' else 'timm')
    assert report['source']['entry'] == ('model' if source == 'vit' else '')
    assert report['target']['file'] == path.name and report['target']['format'] == to
    weights = peers.weights_of(NETWORKS[source]())
    kept = peers.without_classifier(weights)
    counts = report['counts']
    assert counts['encoder'] == len(kept) and counts['outside'] == len(weights) - len(kept)
    assert counts['resampled'] == 0 and report['resampled'] == []
    assert to == 'onnx' or counts['written'] == len(names_in(path))
    assert {name for name in report['dropped'] if '(k)' not in name} == weights.keys() - kept.keys()
    folded = {name for name in weights if name.endswith(('q_bias', 'v_bias', 'relative_position_index'))}
    assert report['folded'].keys() == folded
    differences = report['largest_relative_difference']
    assert list(differences) == ['source to target'] and report['verified']
    assert 0 <= differences['source to target'] <= TARGETS[to].tolerance
    assert torch.__version__.startswith(report['versions']['torch'])
    assert f'{counts["encoder"]} weights of the encoder -> {counts["written"]} written' in log
    assert 'largest relative difference, source to target' in log
    assert ('left out, not part of the encoder: 2 (' in log) == (source != 'beit')


def in_mmpretrain(path, report):
    network = build_backbone(report['backbone'])
    network.load_state_dict(load_file(path))
    network.eval()
    return lambda picture: network(picture)[-1]


def in_timm(path, _):
    config = json.loads(Path(f'{path}.config.json').read_text())
    model = timm.create_model(config['architecture'], **{**config['model_args'], 'num_classes': 0})
    model.load_state_dict(load_file(path))
    return model.eval().forward_features


def in_timm_from_the_folder(path, _):
    assert left_in(path) == ['README.md', 'config.json', 'model.safetensors']
    card = (path / 'README.md').read_text()
    assert path.name in card and '.part-' not in card
    model = timm.create_model(f'local-dir:{path}', pretrained=True).eval()
    size = 64 if path.name.startswith('vit') else 224
    assert timm.data.resolve_model_data_config(model)['input_size'] == (3, size, size)
    return model.forward_features


def in_torchvision(path, _):
    model = torchvision.models.resnet18()
    model.fc = nn.Identity()
    model.load_state_dict(load_file(path))
    model.eval()
    return lambda picture: peers.run(model, picture)


def in_onnxruntime(path, _):
    assert f'{path.name}.data' not in left_in(path.parent)
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return lambda picture: torch.from_numpy(session.run(None, {'images': picture.numpy()})[0])


LOADERS = {
    'mmpretrain': in_mmpretrain,
    'timm': in_timm,
    'huggingface': in_timm_from_the_folder,
    'torchvision': in_torchvision,
    'onnx': in_onnxruntime,
}


@pytest.mark.parametrize(('source', 'to'), [case for case in CONVERSIONS if case[1] in LOADERS])
@torch.no_grad()
def test_the_target_s_library_loads_the_file_strictly_and_computes_the_same(converted, source, to):
    path, report, _ = converted(source, to)
    network, features = NETWORKS[source](), LOADERS[to](path, report)
    sizes = ((64, 64), (96, 160), (75, 45)) if source == 'resnet' else ((64, 64),)
    for size_hw, count in itertools.product(sizes, (1, 3)):
        picture = peers.images(size_hw, count, torch.float32)
        assert peers.difference(peers.run(network, picture), features(picture)) < 1e-4


@pytest.mark.parametrize(('source', 'to'), [('resnet', 'mmdet'), ('resnet', 'mmseg'), ('vit', 'mmdet')])
def test_pretrained_and_init_cfg_load_the_file(converted, source, to):
    path, report, _ = converted(source, to)
    assert all(name.startswith('backbone.') for name in names_in(path))
    bare = load_file(converted(source, 'mmpretrain')[0])
    by_option = nn.ModuleDict(dict(backbone=build_backbone(report['backbone'])))
    assert f'{len(bare)}' in load_pretrained(by_option, path, Config())
    assert peers.same_weights(dict(by_option['backbone'].state_dict()), bare)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    install_safe_loader()  # as all tools do
    by_config = build_backbone({**report['backbone'], 'init_cfg': init_cfg})
    by_config.init_weights()
    assert peers.same_weights(dict(by_config.state_dict()), bare)


@pytest.mark.parametrize('to', ['timm', 'huggingface'])
def test_an_export_claims_nothing_that_is_timm_s(tmp_path, to):
    """timm would write tag, licence, origin and paper of the weights that it has itself."""
    dataset = "dict(pipeline=[dict(type='a2mim_mm.RandomResizedCrop', scale=64)])"
    cfg = (
        "model = dict(type='a2mim_mm.A2MIM', backbone=dict(type='ResNet', depth=18), "
        'data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[51, 51, 51], to_rgb=True))\n'
        f'train_dataloader = dict(dataset={dataset})'
    )
    weights = {f'backbone.{name}': tensor for name, tensor in peers.mm_resnet(18).state_dict().items()}
    weights['mask_token.token'] = torch.zeros(4)
    torch.save(dict(state_dict=weights, meta=dict(cfg=cfg)), tmp_path / 'epoch_3.pth')
    out = tmp_path / ('out' if to == 'huggingface' else 'out.pth')
    quietly(tmp_path / 'epoch_3.pth', out, to)
    config = out / 'config.json' if to == 'huggingface' else Path(f'{out}.config.json')
    saved = json.loads(config.read_text())['pretrained_cfg']
    assert not {'tag', 'license', 'origin_url', 'paper_name', 'paper_ids', 'hf_hub_id', 'url'} & {*saved}
    assert saved['input_size'] == [3, 64, 64]
    assert saved['mean'] == [0.5] * 3 and saved['std'] == [0.2] * 3
    assert 'epoch_3.pth (pre-training of a2mim_mm), converted by a2mim_mm' in saved['description']
    if to == 'huggingface':
        card = (out / 'README.md').read_text()
        assert 'epoch_3.pth' in card and 'a1_in1k' not in card and 'apache' not in card


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_what_is_written_says_how_its_network_is_built(vit, tmp_path, suffix):
    path = tmp_path / f'x{suffix}'
    report = quietly(vit, path, 'mmpretrain', origin='deit')
    saved = read_saved_config(load_checkpoint_file(path), str(path))['model']
    assert saved['backbone'] == report['backbone']
    mean, std = ([255 * value for value in report[key]] for key in ('image_mean', 'image_std'))
    assert saved['data_preprocessor'] == dict(mean=mean, std=std, to_rgb=True)


def test_detectron2_s_pickle_has_the_names_of_moco_s_converter(converted):
    content = pickle.loads(converted('resnet', 'detectron2')[0].read_bytes())
    assert content.keys() == {'model', '__author__', 'matching_heuristics'}
    assert content['matching_heuristics'] is True
    assert all(isinstance(array, np.ndarray) for array in content['model'].values())
    assert {'stem.conv1.weight', 'stem.conv1.norm.bias', 'res2.0.conv1.weight'} <= content['model'].keys()
    assert {'res3.0.shortcut.weight', 'res3.0.shortcut.norm.running_var'} <= content['model'].keys()


@pytest.mark.parametrize(
    ('source', 'there', 'back', 'arch'),
    [('vit', 'mmpretrain', 'timm', HEADS), ('resnet', 'detectron2', 'torchvision', None)],
)
def test_there_and_back_is_the_same_bit_for_bit(converted, tmp_path, source, there, back, arch):
    quietly(converted(source, there)[0], tmp_path / 'back.pth', back, arch=arch)
    weights = peers.without_classifier(peers.weights_of(NETWORKS[source]()))
    assert peers.same_weights(torch.load(tmp_path / 'back.pth'), weights)


def test_half_precision_stays_half_precision(tmp_path):
    source = tmp_path / 'vit.safetensors'
    save_file(peers.weights_of(NETWORKS['vit'](), torch.float16), source)
    report = quietly(source, tmp_path / 'a.safetensors', 'mmpretrain')
    assert report['largest_relative_difference']['source to target'] < 1e-5
    quietly(source, tmp_path / 'a.pth', 'mmpretrain', img_size=96)
    quietly(source, tmp_path / 'folder', 'huggingface')
    for written in (
        load_file(tmp_path / 'a.safetensors'),
        torch.load(tmp_path / 'a.pth')['state_dict'],
        load_file(tmp_path / 'folder' / 'model.safetensors'),
    ):
        assert {tensor.dtype for tensor in written.values()} == {torch.float16}


REFUSED = [
    ('vit', 'a.pkl', 'mmpretrain', {}, r"written to \.safetensors or \.pth, got 'a.pkl'"),
    ('vit', 'a', 'timm', {}, r"written to \.safetensors or \.pth, got 'a'"),
    ('vit', 'a.pth', 'onnx', {}, r"onnx is written to \.onnx, got 'a.pth'"),
    ('vit', 'a.pth', 'paddle', {}, "no format 'paddle' to write; known: a2mim, mmpretrain"),
    ('vit', 'a.pth', 'mmdet', dict(timm_model='resnet18'), '--timm-model is for timm and huggingface'),
    ('vit', 'a.pth', 'mmpretrain', dict(img_size=100), 'multiple of the patch size 16, got 100'),
    ('resnet', 'a.pth', 'mmpretrain', dict(img_size=64), 'for the positions of a ViT, but this is a ResNet'),
    ('vit', 'a.pth', 'mmpretrain', dict(arch=None), 'give --arch heads=N'),
    ('vit', 'a.pth', 'mmpretrain', dict(arch='heads=0'), "no ViT 'heads=0'; known: heads=N, "),
    ('vit', 'a.pth', 'mmpretrain', dict(arch='heads=²'), 'no ViT'),
    ('vit', 'a.pth', 'mmpretrain', dict(arch='resnet'), 'no ViT'),
    ('vit', 'a.pth', 'mmpretrain', dict(arch='deit-small'), '6 heads do not divide the width 64'),
    ('vit', 'a.pth', 'mmpretrain', dict(arch='large'), '--arch large is .*1024.*, but the source is .*64'),
    ('resnet', 'a.pth', 'mmpretrain', dict(arch=HEADS), '--arch heads=4 is for a ViT, but .* a ResNet'),
    ('beit', 'a.pth', 'mmpretrain', dict(arch='heads=8'), 'its bias tables have 4 heads, not 8'),
    ('vit', 'a.pth', 'torchvision', {}, 'torchvision cannot hold this encoder: .* not of a A2MIMViT'),
    ('vit', 'a.pkl', 'detectron2', {}, 'detectron2 cannot hold this encoder'),
    ('resnet', 'a.pth', 'timm', dict(timm_model='resnet50'), "timm's resnet50 cannot hold this encoder"),
    ('resnet', 'a.pth', 'timm', dict(timm_model='vit_base_patch16_224'), 'of a A2MIMViT .* not of a ResNet'),
    ('resnet', 'a.pth', 'timm', dict(timm_model='resnet18_of_mine'), 'is not a model of timm'),
    ('resnet', 'a.pth', 'timm', dict(timm_model='efficientnet_b0'), r'or not one of resnet\*'),
    ('beit', 'a.pth', 'timm', dict(timm_model='vit_base_patch16_224'), r'beit_\*.*vit_relpos_\*'),
]


@pytest.mark.parametrize(('source', 'name', 'to', 'options', 'message'), REFUSED)
def test_what_cannot_be_converted_is_refused(sources, tmp_path, source, name, to, options, message):
    with pytest.raises(ValueError, match=message):
        quietly(sources[source], tmp_path / name, to, **options)
    assert not left_in(tmp_path)


def test_folders_are_no_files_and_files_no_folders(vit, tmp_path):
    folder, full, empty = (tmp_path / name for name in ('a.pth', 'full', 'empty'))
    for path in (folder, full, empty):
        path.mkdir()
    for file in (tmp_path / 'file', full / 'mine'):
        file.write_text('mine')
    with pytest.raises(ValueError, match='a.pth is a folder'):
        quietly(vit, folder, 'mmpretrain')
    for name in ('file', 'full'):
        with pytest.raises(ValueError, match=f'new or empty folder, which .*{name} is not'):
            quietly(vit, tmp_path / name, 'huggingface')
    quietly(vit, empty, 'huggingface')
    assert left_in(tmp_path) == ['a.pth', 'empty', 'empty.report.json', 'file', 'full']
    assert left_in(full) == ['mine'] and len(left_in(empty)) == 3


def test_the_source_is_never_the_target(vit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, symbolic, hard = (tmp_path / name for name in ('source.pth', 'symbolic.pth', 'hard.pth'))
    source.write_bytes(vit.read_bytes())
    symbolic.symlink_to(source)
    os.link(source, hard)
    for target in ('source.pth', symbolic, hard):
        with pytest.raises(ValueError, match='is the source itself'):
            quietly(source, target, 'mmpretrain', arch=HEADS)
    assert source.read_bytes() == vit.read_bytes()
    assert left_in(tmp_path) == ['hard.pth', 'source.pth', 'symbolic.pth'] and symbolic.is_symlink()


def test_a_link_to_elsewhere_is_replaced_and_not_followed(vit, tmp_path):
    elsewhere, target = tmp_path / 'elsewhere.pth', tmp_path / 'target.pth'
    elsewhere.write_text('mine')
    target.symlink_to(elsewhere)
    quietly(vit, target, 'mmpretrain')
    assert elsewhere.read_text() == 'mine' and not target.is_symlink()


def flipped(write):
    """A naming's write with the sign of one tensor turned."""

    def wrong(self, encoder):
        weights, dropped = write(self, encoder)
        name = next(name for name in weights if name.endswith(('layers.1.ln2.weight', 'layer4.1.bn2.weight')))
        return {**weights, name: -weights[name]}, dropped

    return wrong


@pytest.mark.parametrize(
    ('source', 'to'),
    [('vit', 'mmpretrain'), ('vit', 'onnx')]
    + [('resnet', to) for to in ('torchvision', 'timm', 'huggingface')],
)
def test_a_wrong_conversion_leaves_what_was_there(sources, tmp_path, monkeypatch, source, to):
    monkeypatch.setattr(Naming, 'write', flipped(Naming.write))
    target = tmp_path / f'target{SUFFIXES.get(to, ".pth")}'
    if target.suffix:
        target.write_text('mine')
    before = left_in(tmp_path)
    with pytest.raises(ConversionError, match=r'nothing is written: .* differ by .* more than 1e-0[45]'):
        quietly(sources[source], target, to)
    assert left_in(tmp_path) == before and all(path.read_text() == 'mine' for path in tmp_path.iterdir())


def test_features_that_are_not_numbers_prove_nothing():
    with pytest.raises(ConversionError, match='differ by nan'):
        verify.compare(torch.ones(2), torch.tensor([1, torch.nan]), tolerance=1e-5)


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError])
@pytest.mark.parametrize('to', ['mmpretrain', 'timm', 'huggingface'])
@pytest.mark.parametrize('moment', ['read_back', 'make_report', 'write'])
def test_what_is_interrupted_leaves_nothing(vit, tmp_path, monkeypatch, to, moment, error):
    place = convert if moment == 'make_report' else type(TARGETS[to])
    write = place.write if moment == 'write' else lambda *args: None

    def stop(*args):
        write(*args)
        raise error

    monkeypatch.setattr(place, moment, stop)
    with pytest.raises(error):
        quietly(vit, tmp_path / f'target{SUFFIXES.get(to, ".pth")}', to)
    assert not left_in(tmp_path)


def test_a_file_that_is_there_is_replaced(vit, tmp_path):
    target = tmp_path / 'new' / 'target.pth'
    for size in (None, 96):
        quietly(vit, target, 'timm', img_size=size)
    assert torch.load(target)['pos_embed'].shape == (1, 37, peers.WIDTH)
    names = ['target.pth', 'target.pth.config.json', 'target.pth.report.json']
    assert left_in(target.parent) == names
    assert json.loads((target.parent / names[1]).read_text())['model_args']['img_size'] in (96, [96, 96])


def test_a_library_that_is_missing_needs_no_verify(vit, tmp_path, monkeypatch):
    def missing(name):
        if name == 'timm':
            raise ModuleNotFoundError("No module named 'timm'", name='timm')
        return importlib.__import__(name)

    monkeypatch.setattr(libraries.importlib, 'import_module', missing)
    target, log = tmp_path / 'target.pth', []
    with pytest.raises(ConversionError, match=r'cannot be built here.*timm is not installed.*--no-verify'):
        quietly(vit, target, 'mmpretrain')
    assert not left_in(tmp_path)
    report = quietly(vit, target, 'mmpretrain', verify=False, log=log.append)
    assert report['verified'] is False and report['largest_relative_difference'] == {}
    assert log[-1] == 'not verified' and target.exists()
    for to, name in (('timm', 'x.pth'), ('huggingface', 'x')):
        with pytest.raises(ValueError, match='timm is not installed'):
            quietly(vit, tmp_path / name, to, verify=False)
    assert left_in(tmp_path) == ['target.pth', 'target.pth.report.json']


def test_another_image_size_resamples_and_says_so(vit, tmp_path):
    target, log = tmp_path / 'target.pth', []
    report = quietly(vit, target, 'mmpretrain', img_size=96, log=log.append)
    assert report['resampled'] == ['pos_embed'] and report['counts']['resampled'] == 1
    assert report['backbone']['img_size'] == 96
    assert list(report['largest_relative_difference']) == ['source to pivot', 'resampled pivot to target']
    assert all(difference < 1e-5 for difference in report['largest_relative_difference'].values())
    source, written = torch.load(vit)['model'], torch.load(target)['state_dict']
    assert written['pos_embed'].shape == (1, 37, peers.WIDTH)
    assert torch.equal(written['pos_embed'][:, 0], source['pos_embed'][:, 0])
    assert torch.equal(written['layers.1.attn.qkv.weight'], source['blocks.1.attn.qkv.weight'])
    assert any('1 resampled' in line for line in log)


@pytest.mark.parametrize(
    ('source', 'model'),
    [
        ('resnet', 'resnet18'),
        ('vit', 'beit_base_patch16_224'),
        ('vit', 'deit_tiny_patch16_224'),
        ('beit', 'vit_relpos_base_patch16_224'),
    ],
)
def test_a_timm_model_can_be_chosen(sources, tmp_path, source, model):
    report = quietly(sources[source], tmp_path / 'x.pth', 'timm', timm_model=model)
    assert json.loads((tmp_path / 'x.pth.config.json').read_text())['architecture'] == model
    assert any('(k)' in name for name in report['dropped']) == model.startswith('beit')


def test_the_tool_converts_as_it_is_told(vit, tmp_path, capsys):
    target, convert_tool = tmp_path / 'target.safetensors', tool('convert_checkpoint')
    arguments = [str(vit), str(target), '--arch', HEADS]
    report = convert_tool.main([*arguments, '--to', 'mmseg', '--img-size', '96'])
    assert report['counts']['written'] == len(names_in(target))
    out = capsys.readouterr().out
    assert 'format: timm (timm)' in out and 'largest relative difference, source to pivot' in out
    told = ['--to', 'mmdet', '--from', 'deit', '--entry', 'model', '--no-verify']
    report = convert_tool.main([*arguments, *told])
    assert report['source']['format'] == 'deit' and report['source']['entry'] == 'model'
    assert report['verified'] is False and 'not verified' in capsys.readouterr().out


NAN = {'layer4.1.bn2.bias': torch.full((512,), torch.nan)}
WRONG = {
    'text': lambda path: path.write_text('<html>'),
    'missing': lambda path: None,
    'no weights': lambda path: torch.save({'epoch': 3}, path),
    'foreign': lambda path: torch.save({'a.weight': torch.zeros(3)}, path),
    'damaged vit': lambda path: torch.save({'blocks.0.attn.qkv.bias': torch.zeros(3)}, path),
    'nan': lambda path: torch.save(peers.weights_of(peers.torchvision_resnet(18)) | NAN, path),
}


@pytest.mark.parametrize('kind', WRONG)
def test_the_tool_says_what_is_wrong_in_one_message(tmp_path, capsys, kind):
    source = tmp_path / 'source.pth'
    WRONG[kind](source)
    before = left_in(tmp_path)
    convert_tool = tool('convert_checkpoint')
    with pytest.raises(SystemExit) as exit_:
        run_tool(lambda: convert_tool.main([str(source), str(tmp_path / 'x.pth'), '--to', 'mmpretrain']))
    message = capsys.readouterr().err
    assert exit_.value.code == 1 and 'Traceback' not in message
    assert message.startswith('error: ') and 'source.pth' in message
    assert message.count('\n') == (2 if kind == 'damaged vit' else 1)
    assert left_in(tmp_path) == before


def test_trust_is_warned_about(vit, tmp_path):
    with pytest.warns(UserWarning, match='any code that it holds runs now'):
        quietly(vit, tmp_path / 'x.pth', 'mmpretrain', trust=True)
