"""Conversions from file to file: proved, whole or not there, reported, and loaded by whom they are for."""

import hashlib
import importlib
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
from mmengine.runner import load_checkpoint
from safetensors.torch import load_file, save_file
from torch import nn

from a2mim_mm.checkpoints import CheckpointError, install_safe_loader
from a2mim_mm.checkpoints.backbone import load_pretrained
from a2mim_mm.checkpoints.load import build_network as build_backbone
from a2mim_mm.convert import TARGETS, ConversionError, convert, convert_checkpoint, libraries, verify
from a2mim_mm.convert.naming import Naming
from a2mim_mm.engine.run_tool import run_tool

SUFFIXES = {'detectron2': '.pkl', 'onnx': '.onnx', 'huggingface': ''}
HEADS = f'heads={peers.HEADS}'
SOURCES = ('resnet', 'vit', 'beit')
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
CONVERSIONS = [(source, to) for source in SOURCES for to in HELD[source]]


def quietly(source, target, to, **options):
    """A conversion whose log is not read."""
    return convert_checkpoint(source, target, to, log=lambda line: None, **options)


class Interrupted(BaseException):
    """Stands in for Ctrl-C."""


@pytest.fixture(scope='module', autouse=True)
def small_images():
    """Lets CNNs be compared by small images, in an eighth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, '_CNN_SIZE', peers.SIZE)
        yield


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
    """Files of three libraries, and their networks."""
    folder, files = tmp_path_factory.mktemp('sources'), {}
    for name in SOURCES:
        network = NETWORKS[name]()
        files[name] = folder / f'{name}.pth'
        weights = peers.weights_of(network)
        torch.save(dict(model=weights, epoch=3) if name == 'vit' else weights, files[name])
    return files


@pytest.fixture(scope='module')
def converted(sources, tmp_path_factory):
    """Makes a conversion once: path, report, and what was logged."""
    folder, done = tmp_path_factory.mktemp('converted'), {}

    def once(source, to):
        if (source, to) not in done:
            path, log = folder / f'{source}_{to}{SUFFIXES.get(to, ".safetensors")}', []
            arch = HEADS if source == 'vit' else None
            report = convert_checkpoint(sources[source], path, to, arch=arch, log=log.append)
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


def expected_of(source, picture):
    """What the source's network makes of images; of a ViT all tokens, of a ResNet the last map."""
    network = NETWORKS[source]()
    if source == 'resnet':
        return last_map(network, picture)
    return peers.run(network, picture)


@torch.no_grad()
def last_map(network, picture):
    """The last map of torchvision's ResNet."""
    nodes = torchvision.models.feature_extraction.create_feature_extractor(network, ['layer4'])
    return nodes(picture)['layer4']


@pytest.mark.parametrize(('source', 'to'), CONVERSIONS)
def test_the_report_says_what_was_done(sources, converted, source, to):
    path, report, log = converted(source, to)
    assert json.loads(Path(f'{path}.report.json').read_text()) == json.loads(json.dumps(report))
    assert report['source']['file'] == sources[source].name
    assert report['source']['sha256'] == hashlib.sha256(sources[source].read_bytes()).hexdigest()
    assert report['source']['format'] == dict(resnet='timm', vit='timm', beit='mmpretrain-backbone')[source]
    assert report['source']['entry'] == ('model' if source == 'vit' else '')
    assert report['target']['file'] == path.name and report['target']['format'] == to
    weights = peers.weights_of(NETWORKS[source]())
    kept = peers.without_classifier(weights)
    counts = report['counts']
    assert counts['encoder'] == len(kept) and counts['outside'] == len(weights) - len(kept)
    assert counts['resampled'] == 0 and report['resampled'] == []
    assert {name for name in report['dropped'] if '(k)' not in name} == weights.keys() - kept.keys()
    differences = report['largest_relative_difference']
    assert list(differences) == ['source to target'] and report['verified']
    assert 0 <= differences['source to target'] <= TARGETS[to].tolerance
    assert torch.__version__.startswith(report['versions']['torch'])
    assert f'{counts["encoder"]} weights of the encoder -> {counts["written"]} written' in log
    assert 'largest relative difference, source to target' in log
    if counts['outside']:
        assert 'left out, not part of the encoder: 2 (' in log


@pytest.mark.parametrize(('source', 'to'), CONVERSIONS)
def test_number_of_weights_in_the_file_is_the_one_reported(converted, source, to):
    path, report, _ = converted(source, to)
    if path.suffix == '.safetensors':
        assert len(load_file(path)) == report['counts']['written']
    elif path.suffix == '.pkl':
        assert len(pickle.loads(path.read_bytes())['model']) == report['counts']['written']
    elif path.is_dir():
        assert len(load_file(path / 'model.safetensors')) == report['counts']['written']


def test_q_and_v_biases_are_folded_in_the_report(converted):
    folded = converted('beit', 'mmpretrain')[1]['folded']
    assert folded['layers.0.attn.q_bias'] == folded['layers.1.attn.v_bias'] == 'part of the bias [q, 0, v]'
    assert 'rel_pos_bias.relative_position_index' in folded


@pytest.mark.parametrize('source', ['resnet', 'vit', 'beit'])
@torch.no_grad()
def test_a_backbone_of_this_package_loads_the_file_strictly(converted, source):
    path, report, _ = converted(source, 'mmpretrain')
    network = build_backbone(report['backbone'])
    network.load_state_dict(load_file(path))
    network.eval()
    picture = peers.images(dtype=torch.float32)
    assert peers.difference(expected_of(source, picture), network(picture)[-1]) < 1e-4


class Model(nn.Module):
    """A detector, as far as its backbone is concerned."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


@pytest.mark.parametrize(('source', 'to'), [('resnet', 'mmdet'), ('resnet', 'mmseg'), ('vit', 'mmdet')])
def test_pretrained_and_init_cfg_load_the_file(converted, source, to):
    path, report, _ = converted(source, to)
    assert all(name.startswith('backbone.') for name in load_file(path))
    bare = load_file(converted(source, 'mmpretrain')[0])
    by_option = Model(build_backbone(report['backbone']))
    table = load_pretrained(by_option, path, Config())
    assert f'{len(bare)}' in table
    assert peers.same_weights(dict(by_option.backbone.state_dict()), bare)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    install_safe_loader()  # as all tools do
    by_config = build_backbone({**report['backbone'], 'init_cfg': init_cfg})
    by_config.init_weights()
    assert peers.same_weights(dict(by_config.state_dict()), bare)


@pytest.mark.parametrize('source', ['resnet', 'vit', 'beit'])
@torch.no_grad()
def test_timm_loads_the_file_strictly_with_the_config_beside_it(converted, source):
    path, _, _ = converted(source, 'timm')
    config = json.loads(Path(f'{path}.config.json').read_text())
    model = timm.create_model(config['architecture'], **{**config['model_args'], 'num_classes': 0})
    model.load_state_dict(load_file(path), strict=True)
    model.eval()
    picture = peers.images(dtype=torch.float32)
    assert peers.difference(expected_of(source, picture), model.forward_features(picture)) < 1e-4


@pytest.mark.parametrize('source', ['resnet', 'vit'])
@torch.no_grad()
def test_timm_loads_the_folder_by_itself(converted, source):
    path, _, _ = converted(source, 'huggingface')
    assert left_in(path) == ['README.md', 'config.json', 'model.safetensors']
    model = timm.create_model(f'local-dir:{path}', pretrained=True).eval()
    picture = peers.images(dtype=torch.float32)
    assert peers.difference(expected_of(source, picture), model.forward_features(picture)) < 1e-4
    assert path.name in (path / 'README.md').read_text()
    assert '.part-' not in (path / 'README.md').read_text()
    size = 64 if source == 'vit' else 224
    assert timm.data.resolve_model_data_config(model)['input_size'] == (3, size, size)


@pytest.mark.parametrize('to', ['timm', 'huggingface'])
def test_an_export_claims_nothing_that_is_timm_s(sources, tmp_path, to):
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
    quietly(vit, tmp_path / f'x{suffix}', 'mmpretrain', arch=HEADS)
    settings = dict(img_size=peers.SIZE, rel_pos_bias=None, layer_scale_init_value=0.1, out_type='raw')
    for heads, fits in ((peers.HEADS, True), (2, False)):
        arch = {**peers.ARCH, 'num_heads': heads}
        backbone = dict(type='a2mim_mm.A2MIMViT', arch=arch, **settings)
        cfg = Config(dict(model=dict(backbone=backbone)))
        model = nn.ModuleDict(dict(backbone=build_backbone(backbone)))
        if fits:
            assert 'backbone from' in load_pretrained(model, tmp_path / f'x{suffix}', cfg)
        else:
            with pytest.raises(CheckpointError, match='num_heads is 4 there and 2 here'):
                load_pretrained(model, tmp_path / f'x{suffix}', cfg)


@torch.no_grad()
def test_the_graph_of_a_cnn_takes_images_of_any_size(converted):
    path, _, _ = converted('resnet', 'onnx')
    session, network = onnxruntime.InferenceSession(path), peers.torchvision_resnet(18)
    for size_hw in ((64, 64), (96, 160), (75, 45)):
        picture = peers.images(size_hw, dtype=torch.float32)
        (features,) = session.run(None, {'images': picture.numpy()})
        assert peers.difference(last_map(network, picture), torch.from_numpy(features)) < 1e-4


@torch.no_grad()
def test_torchvision_loads_the_file_strictly(converted):
    path, _, _ = converted('resnet', 'torchvision')
    model = torchvision.models.resnet18()
    model.fc = nn.Identity()
    model.load_state_dict(load_file(path), strict=True)
    picture = peers.images(dtype=torch.float32)
    assert peers.difference(expected_of('resnet', picture), last_map(model.eval(), picture)) < 1e-4


def test_detectron2_s_pickle_has_the_names_of_moco_s_converter_and_can_be_converted_back(
    converted, sources, tmp_path
):
    path, _, _ = converted('resnet', 'detectron2')
    content = pickle.loads(path.read_bytes())
    assert content['matching_heuristics'] is True and content.keys() == {
        'model', '__author__', 'matching_heuristics'
    }  # fmt: skip
    assert all(isinstance(array, np.ndarray) for array in content['model'].values())
    assert {'stem.conv1.weight', 'stem.conv1.norm.bias', 'res2.0.conv1.weight'} <= content['model'].keys()
    assert {'res3.0.shortcut.weight', 'res3.0.shortcut.norm.running_var'} <= content['model'].keys()
    back = tmp_path / 'back.pth'
    quietly(path, back, 'torchvision')
    weights = peers.without_classifier(torch.load(sources['resnet']))
    assert peers.same_weights(torch.load(back), weights)


@pytest.mark.parametrize('source', ['resnet', 'vit'])
def test_the_graph_computes_what_torch_does_for_any_batch(converted, source):
    path, _, _ = converted(source, 'onnx')
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    for batch in (1, 3):
        picture = peers.images(count=batch, dtype=torch.float32)
        (output,) = session.run(None, {'images': picture.numpy()})
        assert peers.difference(expected_of(source, picture), torch.from_numpy(output)) < 1e-4
    assert left_in(path.parent).count(f'{path.name}.data') == 0


def test_there_and_back_is_the_same_bit_for_bit(converted, vit, tmp_path):
    path, back = converted('vit', 'mmpretrain')[0], tmp_path / 'back.pth'
    quietly(path, back, 'timm', arch=HEADS)
    assert peers.same_weights(torch.load(back), peers.without_classifier(torch.load(vit)['model']))


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_half_precision_stays_half_precision(vit, tmp_path, suffix):
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in torch.load(vit)['model'].items()
    }
    source = tmp_path / 'half.safetensors'
    save_file(half, source)
    target = tmp_path / f'target{suffix}'
    report = quietly(source, target, 'mmpretrain', arch=HEADS)
    written = load_file(target) if suffix == '.safetensors' else torch.load(target)['state_dict']
    assert {tensor.dtype for tensor in written.values()} == {torch.float16}
    assert report['largest_relative_difference']['source to target'] < 1e-5
    folder = tmp_path / 'folder'
    quietly(source, folder, 'huggingface', arch=HEADS)
    in_folder = load_file(folder / 'model.safetensors')
    assert {tensor.dtype for tensor in in_folder.values()} == {torch.float16}
    resampled = tmp_path / 'larger.pth'
    quietly(source, resampled, 'mmpretrain', arch=HEADS, img_size=96)
    assert torch.load(resampled)['state_dict']['pos_embed'].dtype == torch.float16


@pytest.mark.parametrize(
    ('to', 'name', 'message'),
    [
        ('mmpretrain', 'a.pkl', r"written to \.safetensors or \.pth, got 'a.pkl'"),
        ('timm', 'a', r"written to \.safetensors or \.pth, got 'a'"),
        ('onnx', 'a.pth', r"onnx is written to \.onnx, got 'a.pth'"),
        ('detectron2', 'a.safetensors', r'detectron2 is written to \.pkl'),
        ('mmpretrain', '.pth', r"got '\.pth'"),
        ('paddle', 'a.pth', "no format 'paddle' to write; known: a2mim, mmpretrain"),
    ],
)
def test_wrong_suffixes_and_formats_are_refused(vit, tmp_path, to, name, message):
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(vit, tmp_path / name, to)
    assert not left_in(tmp_path)


def test_folders_are_no_files_and_files_no_folders(vit, tmp_path):
    (tmp_path / 'a.pth').mkdir()
    with pytest.raises(ValueError, match='a.pth is a folder'):
        convert_checkpoint(vit, tmp_path / 'a.pth', 'mmpretrain')
    (tmp_path / 'file').write_text('mine')
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'mine').write_text('mine')
    for name in ('file', 'full'):
        with pytest.raises(ValueError, match=f'new or empty folder, which .*{name} is not'):
            convert_checkpoint(vit, tmp_path / name, 'huggingface')
    assert left_in(tmp_path) == ['a.pth', 'file', 'full'] and left_in(tmp_path / 'full') == ['mine']


def test_an_empty_folder_is_filled(vit, tmp_path):
    (tmp_path / 'empty').mkdir()
    quietly(vit, tmp_path / 'empty', 'huggingface', arch=HEADS)
    assert left_in(tmp_path) == ['empty', 'empty.report.json'] and len(left_in(tmp_path / 'empty')) == 3


@pytest.mark.parametrize('link', ['same', 'relative', 'symbolic', 'hard', 'folder'])
def test_the_source_is_never_the_target(vit, tmp_path, monkeypatch, link):
    source = tmp_path / 'source.pth'
    source.write_bytes(vit.read_bytes())
    target = tmp_path / 'target.pth'
    if link == 'same':
        target = source
    elif link == 'relative':
        monkeypatch.chdir(tmp_path)
        target = Path('source.pth')
    elif link == 'symbolic':
        target.symlink_to(source)
    elif link == 'hard':
        os.link(source, target)
    else:
        (tmp_path / 'link').symlink_to(tmp_path, target_is_directory=True)
        target = tmp_path / 'link' / 'source.pth'
    before = left_in(tmp_path)
    with pytest.raises(ValueError, match='is the source itself'):
        convert_checkpoint(source, target, 'mmpretrain', arch=HEADS)
    assert source.read_bytes() == vit.read_bytes() and left_in(tmp_path) == before


def test_a_link_to_elsewhere_is_replaced_and_not_followed(vit, tmp_path):
    elsewhere, target = tmp_path / 'elsewhere.pth', tmp_path / 'target.pth'
    elsewhere.write_text('mine')
    target.symlink_to(elsewhere)
    quietly(vit, target, 'mmpretrain', arch=HEADS)
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
def test_a_wrong_conversion_leaves_nothing(sources, tmp_path, monkeypatch, source, to):
    monkeypatch.setattr(Naming, 'write', flipped(Naming.write))
    target = tmp_path / f'target{SUFFIXES.get(to, ".pth")}'
    arch = HEADS if source == 'vit' else None
    with pytest.raises(ConversionError, match=r'nothing is written: .* differ by .* more than 1e-0[45]'):
        quietly(sources[source], target, to, arch=arch)
    assert not left_in(tmp_path)


def test_features_that_are_not_numbers_prove_nothing():
    with pytest.raises(ConversionError, match='differ by nan'):
        verify.compare(torch.ones(2), torch.tensor([1, torch.nan]), tolerance=1e-5)


def test_a_wrong_conversion_leaves_what_was_there(vit, tmp_path, monkeypatch):
    target = tmp_path / 'target.pth'
    target.write_text('mine')
    monkeypatch.setattr(Naming, 'write', flipped(Naming.write))
    with pytest.raises(ConversionError):
        quietly(vit, target, 'mmpretrain', arch=HEADS)
    assert target.read_text() == 'mine' and left_in(tmp_path) == ['target.pth']


@pytest.mark.parametrize('error', [Interrupted, KeyboardInterrupt, OSError, MemoryError])
@pytest.mark.parametrize('to', ['mmpretrain', 'timm', 'huggingface'])
@pytest.mark.parametrize('moment', ['read_back', 'make_report', 'write'])
def test_what_is_interrupted_leaves_nothing(vit, tmp_path, monkeypatch, to, moment, error):
    def stop(*args, **kwargs):
        raise error

    kind = type(TARGETS[to])
    if moment == 'write':
        write = kind.write

        def half(self, expression, path):
            write(self, expression, path)
            raise error

        monkeypatch.setattr(kind, 'write', half)
    elif moment == 'read_back':
        monkeypatch.setattr(kind, 'read_back', stop)
    else:
        monkeypatch.setattr(convert, moment, stop)
    target = tmp_path / f'target{SUFFIXES.get(to, ".pth")}'
    with pytest.raises(error):
        quietly(vit, target, to, arch=HEADS)
    assert not left_in(tmp_path)


def test_a_file_that_is_there_is_replaced(vit, tmp_path):
    target = tmp_path / 'new' / 'target.pth'
    for size in (None, 96):
        quietly(vit, target, 'timm', arch=HEADS, img_size=size)
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
        convert_checkpoint(vit, target, 'mmpretrain', arch=HEADS, log=log.append)
    assert not left_in(tmp_path)
    report = convert_checkpoint(vit, target, 'mmpretrain', arch=HEADS, verify=False, log=log.append)
    assert report['verified'] is False and report['largest_relative_difference'] == {}
    assert log[-1] == 'not verified' and target.exists()
    for to in ('timm', 'huggingface'):
        with pytest.raises(ConversionError, match='timm is not installed'):
            convert_checkpoint(
                vit, tmp_path / f'x{SUFFIXES.get(to, ".pth")}', to, arch=HEADS, verify=False, log=log.append
            )
    assert left_in(tmp_path) == ['target.pth', 'target.pth.report.json']


def test_another_image_size_resamples_and_says_so(vit, tmp_path):
    target, log = tmp_path / 'target.pth', []
    report = convert_checkpoint(vit, target, 'mmpretrain', arch=HEADS, img_size=96, log=log.append)
    assert report['resampled'] == ['pos_embed'] and report['counts']['resampled'] == 1
    assert report['backbone']['img_size'] == 96
    assert list(report['largest_relative_difference']) == ['source to pivot', 'resampled pivot to target']
    assert all(difference < 1e-5 for difference in report['largest_relative_difference'].values())
    source, written = torch.load(vit)['model'], torch.load(target)['state_dict']
    assert written['pos_embed'].shape == (1, 37, peers.WIDTH)
    assert torch.equal(written['pos_embed'][:, 0], source['pos_embed'][:, 0])
    assert torch.equal(written['layers.1.attn.qkv.weight'], source['blocks.1.attn.qkv.weight'])
    assert any('1 resampled' in line for line in log)


@pytest.mark.parametrize('size', [0, -16, 100])
def test_an_image_size_that_the_patch_does_not_divide_is_refused(vit, tmp_path, size):
    with pytest.raises(ConversionError, match=f'multiple of the patch size 16, got {size}'):
        quietly(vit, tmp_path / 'x.pth', 'mmpretrain', arch=HEADS, img_size=size)
    assert not left_in(tmp_path)


def test_an_image_size_is_none_of_a_resnet(sources, tmp_path):
    with pytest.raises(
        ConversionError, match='--img-size is for the positions of a ViT, but this is a ResNet'
    ):
        convert_checkpoint(sources['resnet'], tmp_path / 'x.pth', 'mmpretrain', img_size=64)
    assert not left_in(tmp_path)


@pytest.mark.parametrize(
    ('arch', 'message'),
    [
        (None, r'give --arch heads=N'),
        ('heads=0', r"no ViT 'heads=0'; known: heads=N, "),
        ('heads=-4', 'no ViT'),
        ('heads=x', 'no ViT'),
        ('heads=', 'no ViT'),
        ('heads=²', 'no ViT'),
        ('resnet', 'no ViT'),
        ('heads=5', '5 heads do not divide the width 64'),
        ('deit-small', '6 heads do not divide the width 64'),
        ('base', '12 heads do not divide the width 64'),
        ('large', '--arch large is .*1024.*, but the source is .*64'),
    ],
)
def test_wrong_archs_are_refused(vit, tmp_path, arch, message):
    with pytest.raises(ValueError, match=message):
        quietly(vit, tmp_path / 'x.pth', 'mmpretrain', arch=arch)
    assert not left_in(tmp_path)


def test_an_arch_is_held_against_tables_and_families(sources, tmp_path):
    with pytest.raises(ConversionError, match='--arch heads=4 is for a ViT, but the source holds a ResNet'):
        convert_checkpoint(sources['resnet'], tmp_path / 'x.pth', 'mmpretrain', arch=HEADS)
    with pytest.raises(ConversionError, match='heads'):
        convert_checkpoint(sources['beit'], tmp_path / 'x.pth', 'mmpretrain', arch='heads=8')
    assert not left_in(tmp_path)


@pytest.mark.parametrize('to', ['torchvision', 'detectron2'])
def test_a_vit_is_no_resnet(vit, tmp_path, to):
    with pytest.raises(ConversionError, match=f'{to} .*cannot hold this encoder|{to} cannot hold'):
        quietly(vit, tmp_path / f'x{SUFFIXES.get(to, ".pth")}', to, arch=HEADS)
    assert not left_in(tmp_path)


@pytest.mark.parametrize(
    ('source', 'model', 'message'),
    [
        ('resnet', 'resnet50', "timm's resnet50 cannot hold this encoder"),
        ('resnet', 'vit_base_patch16_224', 'names the weights of a A2MIMViT here, not of a ResNet'),
        ('resnet', 'resnet18_of_mine', 'is not a model of timm'),
        ('resnet', 'efficientnet_b0', r'or not one of resnet\*'),
        ('beit', 'vit_base_patch16_224', r'beit_\*.*vit_relpos_\*'),
    ],
)
def test_a_timm_model_that_does_not_hold_it_is_refused(sources, tmp_path, source, model, message):
    with pytest.raises(ConversionError, match=message):
        quietly(sources[source], tmp_path / 'x.pth', 'timm', timm_model=model)
    assert not left_in(tmp_path)


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
    target = tmp_path / 'x.pth'
    arch = HEADS if source == 'vit' else None
    report = quietly(sources[source], target, 'timm', arch=arch, timm_model=model)
    assert json.loads((tmp_path / 'x.pth.config.json').read_text())['architecture'] == model
    assert any('(k)' in name for name in report['dropped']) == model.startswith('beit')


def test_the_tool_converts(vit, tmp_path, capsys):
    target = tmp_path / 'target.safetensors'
    arguments = [str(vit), str(target), '--to', 'mmseg', '--arch', HEADS, '--img-size', '96']
    report = tool('convert_checkpoint').main(arguments)
    assert report['counts']['written'] == len(load_file(target))
    out = capsys.readouterr().out
    assert 'format: timm (timm)' in out and 'largest relative difference, source to pivot' in out


def test_the_tool_reads_as_it_is_told(vit, tmp_path, capsys):
    arguments = [str(vit), str(tmp_path / 'a.pth'), '--to', 'mmdet', '--from', 'deit', '--arch', HEADS]
    report = tool('convert_checkpoint').main([*arguments, '--no-verify', '--entry', 'model'])
    assert report['source']['format'] == 'deit' and report['source']['entry'] == 'model'
    assert report['verified'] is False and 'not verified' in capsys.readouterr().out


WRONG = {
    'text': lambda path: path.write_text('<html>'),
    'missing': lambda path: None,
    'empty': lambda path: path.write_bytes(b''),
    'no weights': lambda path: torch.save({'epoch': 3}, path),
    'foreign': lambda path: torch.save({'a.weight': torch.zeros(3)}, path),
    'foreign cnn': lambda path: torch.save(torchvision.models.mobilenet_v3_small().state_dict(), path),
    'damaged vit': lambda path: torch.save({'blocks.0.attn.qkv.bias': torch.zeros(3)}, path),
    'nan': lambda path: torch.save(
        {
            name: torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor
            for name, tensor in peers.torchvision_resnet(18).state_dict().items()
        },
        path,
    ),
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
        quietly(vit, tmp_path / 'x.pth', 'mmpretrain', arch=HEADS, trust=True)


def test_mmengine_s_own_loader_reads_what_was_written(converted):
    path, report, _ = converted('resnet', 'mmpretrain')
    install_safe_loader()
    network = build_backbone(report['backbone'])
    load_checkpoint(network, str(path), strict=True)
    assert peers.same_weights(dict(network.state_dict()), load_file(path))
