"""Backbone, features and reconstructions in three lines are what the networks themselves give."""

import numpy as np
import pytest
import torch
from helpers.toy_training import tool
from helpers.toy_transfer import BACKBONES, NORMALISATION, SIZE, draw_photos, pretraining, write_settings
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from a2mim_mm import apis
from a2mim_mm.apis import extract_features, iterate_features, load_backbone, load_model, reconstruct
from a2mim_mm.checkpoints import CheckpointError, load_checkpoint_file
from a2mim_mm.errors import InputError
from a2mim_mm.models.reconstruct import draw_mask
from a2mim_mm.models.reconstruct import reconstruct as reconstruct_batch

MEAN, STD = (torch.tensor(NORMALISATION[key])[:, None, None] for key in ('mean', 'std'))
DATASET = "dict(pipeline=[dict(type='RandomResizedCrop', scale={})])"
LAYERS = dict(resnet=['layer3', 'layer1.0.bn1'], vit=['layers.0', 'layers.2.attn'])


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    return draw_photos(tmp_path_factory.mktemp('photos'))


@pytest.fixture(scope='module', params=sorted(BACKBONES))
def trained(request, tmp_path_factory, photos):
    """The kind of a backbone, and the checkpoint of a real pre-training of it."""
    folder = tmp_path_factory.mktemp(f'apis_{request.param}')
    config = write_settings(folder, f'apis_{request.param}', pretraining(request.param, photos))
    tool('train').main([str(config), '--work-dir', str(folder / 'run')])
    return request.param, folder / 'run' / 'epoch_1.pth'


def images(count=5, size=SIZE):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def reference(kind, path):
    """The backbone, built and filled by hand."""
    init_default_scope('mmpretrain')
    backbone, weights = MODELS.build(BACKBONES[kind]), load_checkpoint_file(path)['state_dict']
    backbone.load_state_dict({name: weights[f'backbone.{name}'] for name in backbone.state_dict()})
    backbone.eval()
    return backbone


def test_load_backbone_builds_and_fills_what_was_trained(trained):
    kind, path = trained
    backbone, expected = load_backbone(path), reference(kind, path)
    assert type(backbone) is type(expected)
    assert not any(module.training for module in backbone.modules())
    assert backbone.state_dict().keys() == expected.state_dict().keys()
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name
    assert backbone.pretrained_cfg['input_size'] == (3, SIZE, SIZE)
    for key in ('mean', 'std'):
        np.testing.assert_allclose(backbone.pretrained_cfg[key], np.array(NORMALISATION[key]) / 255)


def test_features_are_those_of_the_forward_pass(trained):
    kind, path = trained
    backbone, expected = load_backbone(path), reference(kind, path)
    kept = {}
    for name in LAYERS[kind]:
        expected.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: kept.update({name: output.clone()})
        )
    with torch.no_grad():
        outputs = expected((images() * 255 - MEAN) / STD)
    for feature, own in zip(extract_features(backbone, images(), batch_size=2), outputs, strict=True):
        torch.testing.assert_close(feature, own, rtol=1e-4, atol=1e-5)
        assert not feature.requires_grad
    features = extract_features(backbone, images(), LAYERS[kind])
    assert [*features] == [*LAYERS[kind]]
    for name, feature in features.items():
        torch.testing.assert_close(feature, kept[name], rtol=1e-4, atol=1e-5)
    assert not any(module._forward_hooks for module in backbone.modules())


def test_files_folders_pictures_arrays_and_generators_are_images(trained, photos):
    backbone, paths = load_backbone(trained[1]), sorted(photos.glob('*.png'))
    pictures = [Image.open(path) for path in paths]
    arrays = [np.asarray(picture.convert('RGB')) for picture in pictures]
    (expected,) = extract_features(backbone, photos)
    same = (list(map(str, paths)), pictures, np.stack(arrays), [paths[0], *pictures[1:]], iter(arrays))
    for one in same:
        (features,) = extract_features(backbone, one, batch_size=3)
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    for one in (paths[0], pictures[0], arrays[0]):
        torch.testing.assert_close(extract_features(backbone, one)[0], expected[:1], rtol=1e-4, atol=1e-5)
    assert len(extract_features(backbone, [photos, paths[2]])[0]) == 9
    (of_model,) = extract_features(load_model(trained[1]).backbone, photos)
    assert torch.equal(of_model, expected)


def test_a_generator_is_read_as_features_are_asked_for(trained, photos):
    path, read = sorted(photos.glob('*.png'))[0], []
    endless = (read.append(1) or path for _ in iter(int, 1))
    batches = iterate_features(load_backbone(trained[1]), endless, LAYERS[trained[0]], batch_size=2)
    assert [next(batches).keys() for _ in range(2)] and len(read) == 4


def test_pooled_features_are_means_over_the_patches(trained):
    kind, path = trained
    backbone = load_backbone(path)
    whole = extract_features(backbone, images(), LAYERS[kind])
    for name, feature in extract_features(backbone, images(), LAYERS[kind], pool=True).items():
        patches = whole[name].flatten(2).mT if whole[name].ndim == 4 else whole[name][:, 1:]
        torch.testing.assert_close(feature, patches.mean(dim=1), rtol=1e-5, atol=1e-6)


WRONG = [images()[0], images() * 255, images() - 1, (images() * 255).byte(), images()[:, :1], images()[:0]]


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        (7, 'images must be files'),
        ([7], 'an image must be a path, a PIL image or an array, got a int'),
        (np.zeros((8, 8), np.uint8), 'uint8'),
        (np.zeros((8, 8, 4), np.uint8), r'RGB, uint8 \(H, W, 3\), got uint8 \(8, 8, 4\)'),
        (np.zeros((8, 8, 3)), 'got float64'),
        *((tensor, r'0\.\.1') for tensor in (*WRONG, images() * float('nan'))),
    ],
)
def test_other_images_are_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        extract_features(nn.Conv2d(3, 4, 1), wrong)
    with pytest.raises(FileNotFoundError, match='absent'):
        extract_features(nn.Conv2d(3, 4, 1), ['absent.png'])


def test_a_file_is_seen_in_rgb_at_the_size_of_the_training(trained, tmp_path):
    picture = (images(1)[0] * 255).round().byte()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / 'a.png')
    backbone = load_backbone(trained[1])
    (from_file,) = extract_features(backbone, tmp_path / 'a.png')
    torch.testing.assert_close(
        from_file, extract_features(backbone, picture[None] / 255)[0], rtol=1e-4, atol=1e-5
    )


def test_a_network_in_training_stays_in_training_and_is_evaluated(trained):
    backbone = load_backbone(trained[1])
    expected = extract_features(backbone, images())
    backbone.train()
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    for feature, own in zip(extract_features(backbone, images()), expected, strict=True):
        assert torch.equal(feature, own)
    assert all(module.training for module in backbone.modules())
    assert all(torch.equal(value, state[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_plain_state_dict_needs_the_backbone(trained, tmp_path, suffix):
    kind, path = trained
    weights = {key: value.contiguous() for key, value in reference(kind, path).state_dict().items()}
    plain = tmp_path / f'backbone{suffix}'
    save_file(weights, plain) if suffix == '.safetensors' else torch.save(weights, plain)
    with pytest.raises(CheckpointError, match=r'backbone=dict'):
        load_backbone(plain)
    backbone = load_backbone(plain, backbone=BACKBONES[kind])
    assert all(torch.equal(value, weights[name]) for name, value in backbone.state_dict().items())
    assert backbone.pretrained_cfg['input_size'] == (3, 224, 224)
    weights.pop(next(iter(weights)))
    torch.save(weights, tmp_path / 'lacking.pth')
    with pytest.raises(CheckpointError, match='1 not in the checkpoint'):
        load_backbone(tmp_path / 'lacking.pth', backbone=BACKBONES[kind])


def test_any_network_has_features():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4 * 8 * 8, 2))
    (own,) = extract_features(network, images(size=8))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])  # ImageNet's
    with torch.no_grad():
        expected = network((images(size=8) - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(own, expected)


def test_layers_that_give_no_feature_are_refused():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.unused = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
            self.pair = nn.Identity()

        def forward(self, x):
            return self.pair((self.inner(x), x))

    with pytest.raises(ValueError, match='Pair has no outer; it is made of inner, unused, pair'):
        extract_features(Pair(), images(), ['inner', 'outer'])
    with pytest.raises(InputError, match='unused takes no part'):
        extract_features(Pair(), images(), ['unused'])
    with pytest.raises(InputError, match='output of pair is a tuple'):
        extract_features(Pair(), images(), ['pair'])
    with pytest.raises(ValueError, match=r"such as \['pair'\]"):
        extract_features(Pair(), images(), 'pair')


def test_reconstruct_is_that_of_the_whole_model(trained, photos, monkeypatch):
    monkeypatch.setattr(apis, '_BATCH', 2)
    model = load_model(trained[1])
    assert not any(module.training for module in model.modules())
    state = load_checkpoint_file(trained[1])['state_dict']
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    pictures = reconstruct(model, images(), seed=3)
    expected = reconstruct_batch(model, images(), draw_mask(model, images(), seed=3))
    assert pictures.keys() == {'original', 'masked', 'prediction', 'composite'}
    for name, value in pictures.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    assert not torch.equal(reconstruct(model, images(), seed=4)['masked'], pictures['masked'])
    assert reconstruct(model, photos)['composite'].shape == (8, 3, SIZE, SIZE)


def test_load_model_refuses_what_is_no_pretraining(trained, tmp_path):
    checkpoint = load_checkpoint_file(trained[1])
    del checkpoint['state_dict']['mask_token.token']
    torch.save(checkpoint, tmp_path / 'lacking.pth')
    with pytest.raises(CheckpointError, match=r'mask_token\.token'):
        load_model(tmp_path / 'lacking.pth')
    checkpoint['meta']['cfg'] = "model = dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18))"
    torch.save(checkpoint, tmp_path / 'classifier.pth')
    with pytest.raises(CheckpointError, match='only an A2MIM pre-training'):
        load_model(tmp_path / 'classifier.pth')


@pytest.fixture
def load_with(trained, tmp_path):
    """Loads the backbone of a checkpoint whose config text was changed."""

    def load(old='to_rgb=True', new='to_rgb=True', more=''):
        checkpoint = load_checkpoint_file(trained[1])
        text = checkpoint['meta']['cfg']
        assert text.count(old) == 1
        checkpoint['meta']['cfg'] = text.replace(old, new) + more
        torch.save(checkpoint, tmp_path / 'other.pth')
        return load_backbone(tmp_path / 'other.pth')

    return load


def test_statistics_that_are_no_rgb_are_refused(load_with):
    for old, new, words in (
        ('to_rgb=True', 'to_rgb=False', 'BGR'),
        ('std=[', 'spread=[', 'mean and std'),
        ('mean=[', "mean='a', was=[", 'mean and std'),
    ):
        with pytest.raises(CheckpointError, match=words):
            load_with(old, new)


def test_the_size_is_that_of_the_training_pipeline(load_with):
    for loader, height, width in (
        ('[1]', 224, 224),
        (f"dict(dataset=dict(type='RepeatDataset', dataset={DATASET.format(96)}))", 96, 96),
        (f'dict(dataset={DATASET.format((96, 64))})', 64, 96),
    ):
        backbone = load_with(more=f'\ntrain_dataloader = {loader}\n')
        assert backbone.pretrained_cfg['input_size'] == (3, height, width)


def test_a_config_that_calls_a_function_is_not_run(trained, tmp_path):
    checkpoint = load_checkpoint_file(trained[1])
    written = tmp_path / 'written'
    for cfg in (
        f'model = dict(backbone=open({str(written)!r}, "w"))',
        f'model = dict(backbone=dict(type="subprocess.Popen", args=["touch", {str(written)!r}]))',
    ):
        torch.save({**checkpoint, 'meta': dict(cfg=cfg)}, tmp_path / 'evil.pth')
        with pytest.raises(CheckpointError, match=r'evil\.pth'):
            load_backbone(tmp_path / 'evil.pth')
    assert not written.exists()
