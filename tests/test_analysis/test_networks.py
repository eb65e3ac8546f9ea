"""Networks for an analysis are those of their checkpoints, and see images as in their own tests."""

import argparse
import os
import re
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.analysed import CLASSES, draw_classes, write_classifier
from helpers.toy_training import tool
from helpers.toy_transfer import BACKBONES, NORMALISATION, SIZE, pretraining, write_settings
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from safetensors.torch import save_file

from a2mim_mm.analysis.networks import RANDOM, Source, load_classifier, load_encoder
from a2mim_mm.analysis.photos import choose_photos
from a2mim_mm.apis import extract_features, load_backbone

KINDS = ('resnet', 'vit')
MEAN, STD = (torch.tensor(NORMALISATION[key])[:, None, None] for key in ('mean', 'std'))


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    return draw_classes(tmp_path_factory.mktemp('subjects') / 'photos')


def batch_of(subject, photos, count=None, labelled=False):
    (batch,) = choose_photos(str(photos), count, 0, labelled).batches(subject, 100)
    return batch


@pytest.mark.parametrize('kind', KINDS)
def test_a_classifier_gives_what_it_gives_in_a_test(kind, photos, tmp_path):
    config, checkpoint = write_classifier(tmp_path, kind, photos)
    subject = load_classifier(Source('it', config, checkpoint), 0, 3)
    assert subject.classes == tuple(CLASSES)
    assert not any(module.training for module in subject.network.modules())
    cfg = Config.fromfile(config)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    model.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'])
    model.eval()
    tested = []
    for batch in Runner.build_dataloader(dict(cfg.test_dataloader, collate_fn=dict(type='pseudo_collate'))):
        with torch.no_grad():
            tested += [sample.pred_score for sample in model.test_step(batch)]
    with torch.no_grad():
        scores = subject.network(batch_of(subject, photos)).softmax(1)
    torch.testing.assert_close(scores, torch.stack(tested), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(subject.black(), -MEAN[:, 0, 0] / STD[:, 0, 0])


@pytest.mark.parametrize('kind', KINDS)
def test_the_encoder_of_a_pretraining_however_it_is_stored(kind, photos, tmp_path):
    config = str(write_settings(tmp_path, f'subject_{kind}', pretraining(kind, photos)))
    tool('train').main([config, '--work-dir', str(tmp_path / 'run')])
    checkpoint = tmp_path / 'run' / 'epoch_1.pth'
    backbone = load_backbone(checkpoint)
    plain = tmp_path / 'plain.safetensors'
    save_file(backbone.state_dict(), plain)
    feature = extract_features(backbone, photos)[0]
    for path in (checkpoint, plain):
        subject = load_encoder(Source('it', config, str(path)), 0)
        with torch.no_grad():
            own = subject.network(batch_of(subject, photos))[0]
        # Pixels are rounded to whole numbers on the way, as they are where a pipeline resizes them.
        torch.testing.assert_close(own, feature, rtol=0.02, atol=0.02)
        for name, value in backbone.state_dict().items():
            assert torch.equal(subject.network.state_dict()[name], value)


def test_all_encoders_see_the_same_whole_images(photos, tmp_path):
    """Of a classifier, a pre-training and timm; their normalisations differ."""
    pytest.importorskip('timm')
    pretraining_config = str(write_settings(tmp_path, 'same', pretraining('vit', photos)))
    sources = (
        Source('it', *write_classifier(tmp_path, 'resnet', photos)),
        Source('it', pretraining_config, RANDOM),
        Source('it', 'timm:resnet10t', RANDOM),
    )
    pictures = []
    for source in sources:
        subject = load_encoder(source, 0)
        white = subject.normalise(torch.full((1, 3, 1, 1), 255).byte())
        low, high = subject.black()[:, None, None], white[0]
        scaled = (batch_of(subject, photos) - low) / (high - low)
        pictures.append(torch.nn.functional.adaptive_avg_pool2d(scaled, 8))
    torch.testing.assert_close(pictures[0], pictures[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(pictures[0], pictures[2], rtol=0, atol=0.03)  # at a larger size


def test_the_encoder_of_a_classifier_is_its_backbone(photos, tmp_path):
    source = Source('it', *write_classifier(tmp_path, 'resnet', photos))
    encoder, classifier = load_encoder(source, 0), load_classifier(source, 0, 3)
    batch = batch_of(classifier, photos)
    with torch.no_grad():
        feature = encoder.network(batch)[-1].mean((2, 3))
        assert torch.equal(classifier.network.head.fc(feature), classifier.network(batch))


def test_random_weights_come_from_no_other_checkpoint(photos, tmp_path):
    config, checkpoint = write_classifier(tmp_path, 'resnet', photos)
    init_cfg = dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')
    text = Path(config).read_text().replace("'depth': 18", f"'depth': 18, 'init_cfg': {init_cfg!r}")
    other = tmp_path / 'pretrained.py'
    other.write_text(text)
    assert 'Pretrained' in text
    for load in (partial(load_classifier, num_classes=3), load_encoder):
        plain, same = (load(Source('it', str(path), RANDOM), 0).network for path in (config, other))
        weights = same.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in plain.state_dict().items())


@pytest.mark.parametrize('rgb', [True, False])
def test_a_network_that_was_not_trained_on_rgb_gets_what_it_knows(rgb, photos, tmp_path):
    settings = pretraining('resnet', photos)
    settings['model']['data_preprocessor'] = dict(
        type='SelfSupDataPreprocessor', mean=[10, 20, 30], std=[2, 4, 8], to_rgb=rgb
    )
    config = str(write_settings(tmp_path, f'channels_{rgb}', settings))
    colour_bgr = (40, 90, 200)
    (tmp_path / 'one').mkdir()
    cv2.imwrite(str(tmp_path / 'one' / 'a.png'), np.full((SIZE, SIZE, 3), colour_bgr, np.uint8))
    pixel = batch_of(load_encoder(Source('it', config, RANDOM), 0), tmp_path / 'one')[0, :, 5, 5]
    values = torch.tensor(colour_bgr[::-1] if rgb else colour_bgr)
    torch.testing.assert_close(pixel, (values - torch.tensor([10, 20, 30])) / torch.tensor([2.0, 4, 8]))


@pytest.mark.parametrize('kind', KINDS)
def test_random_weights_follow_the_seed(kind, photos, tmp_path, capfd):
    config, _ = write_classifier(tmp_path, kind, photos)
    first, again, other = (
        load_classifier(Source('it', config, RANDOM), seed, 3).network.head.fc.weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert 'init' not in capfd.readouterr().err.lower()


def test_backbones_that_hide_patches_see_whole_images(photos, tmp_path):
    model = dict(
        type='MAE',
        backbone=dict(type='MAEViT', arch=BACKBONES['vit']['arch'], img_size=SIZE, patch_size=16),
        neck=dict(type='MAEPretrainDecoder', num_patches=16, patch_size=16, embed_dim=24),
        head=dict(
            type='MAEPretrainHead', patch_size=16, loss=dict(type='PixelReconstructionLoss', criterion='L2')
        ),
        data_preprocessor=dict(type='SelfSupDataPreprocessor', **NORMALISATION),
    )
    config = str(write_settings(tmp_path, 'mae', dict(default_scope='mmpretrain', model=model)))
    subject = load_encoder(Source('it', config, RANDOM), 0)
    image = torch.rand(2, 3, SIZE, SIZE)
    tokens = []
    subject.network.layers[2].register_forward_hook(lambda *args: tokens.append(args[2]))
    with torch.no_grad():
        subject.network(image)
        subject.network(image)
    assert tokens[0].shape == (2, 1 + 16, 24)
    assert torch.equal(*tokens)


def test_a_network_of_timm_sees_images_as_timm_shows_them(photos, tmp_path):
    timm = pytest.importorskip('timm')
    from PIL import Image

    torch.manual_seed(0)
    network = timm.create_model('resnet10t', num_classes=3)
    network.eval()
    torch.save(network.state_dict(), tmp_path / 'it.pth')
    subject = load_classifier(Source('it', 'timm:resnet10t', str(tmp_path / 'it.pth')), 0, 3)
    data = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**data, is_training=False)
    batch = batch_of(subject, photos, labelled=True)
    paths = sorted(photos.glob('*/*.png'))
    expected = torch.stack([transform(Image.open(path).convert('RGB')) for path in paths])
    torch.testing.assert_close(batch, expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(subject.network(batch[:3]), network(expected[:3]), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        subject.black(), -torch.tensor(data['mean']) / torch.tensor(data['std']), rtol=1e-5, atol=1e-6
    )
    headless = {name: value for name, value in network.state_dict().items() if not name.startswith('fc.')}
    torch.save(headless, tmp_path / 'headless.pth')
    encoder = load_encoder(Source('it', 'timm:resnet10t', str(tmp_path / 'headless.pth')), 0)
    with torch.no_grad():
        torch.testing.assert_close(encoder.network(batch[:1]).shape, torch.Size([1, 512]))


@pytest.mark.parametrize(
    'wrap',
    [
        lambda weights: dict(state_dict={f'module.{name}': value for name, value in weights.items()}),
        lambda weights: dict(state_dict_ema={f'_orig_mod.{name}': value for name, value in weights.items()}),
        lambda weights: dict(state_dict=weights, args=argparse.Namespace(lr=1), arch='vit_tiny'),
    ],
)
def test_a_classifier_of_timm_is_kept_whatever_is_around_it(photos, tmp_path, wrap):
    timm = pytest.importorskip('timm')
    network = timm.create_model('resnet10t', num_classes=3).eval()
    torch.save(wrap(network.state_dict()), tmp_path / 'it.pth')
    subject = load_classifier(Source('it', 'timm:resnet10t', str(tmp_path / 'it.pth')), 0, 3)
    picture = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(subject.network(picture).cpu(), network(picture))


def test_names_of_others_are_translated_with_their_classifier(tmp_path):
    timm = pytest.importorskip('timm')
    network = timm.create_model('convnext_atto', num_classes=3).eval()
    weights = {}
    for name, value in network.state_dict().items():  # facebookresearch's names of the stem and the head
        name = name.replace('stem.', 'downsample_layers.0.').replace('head.fc.', 'head.')
        name = re.sub(r'stages\.(\d)\.downsample\.', r'downsample_layers.\1.', name)
        name = re.sub(r'stages\.(\d)\.blocks\.', r'stages.\1.', name).replace('head.norm.', 'norm.')
        name = name.replace('conv_dw', 'dwconv').replace('mlp.fc', 'pwconv')
        weights[name] = value
    torch.save(dict(model=weights), tmp_path / 'it.pth')
    subject = load_classifier(Source('it', 'timm:convnext_atto', str(tmp_path / 'it.pth')), 0, 3)
    picture = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(subject.network(picture).cpu(), network(picture))


def test_without_timm_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ValueError, match=r'timm is not installed.*convert\.txt'):
        load_classifier(Source('it', 'timm:resnet18', RANDOM), 0, 3)


def test_images_are_drawn_without_replacement_and_known_again(photos, tmp_path):
    drawn = [choose_photos(str(photos), count, seed, True) for count, seed in ((5, 0), (5, 0), (5, 1))]
    assert drawn[0].indices == drawn[1].indices and drawn[0].digest == drawn[1].digest
    assert drawn[0].indices != drawn[2].indices and drawn[0].digest != drawn[2].digest
    assert len({*drawn[0].indices}) == 5
    whole = choose_photos(str(photos), None, 0, True)
    assert whole.labels.tolist() == [
        label for label, count in enumerate(CLASSES.values()) for _ in range(count)
    ]
    assert drawn[0].labels.tolist() == [whole.labels[index] for index in drawn[0].indices]
    assert choose_photos(str(photos), None, 0, False).labels is None


def test_images_of_different_sizes_are_refused(photos, tmp_path):
    config, checkpoint = write_classifier(tmp_path, 'resnet', photos)
    subject = load_classifier(Source('it', config, checkpoint), 0, 3)
    cv2.imwrite(str(photos / 'ant' / 'tall.png'), np.zeros((300, 90, 3), np.uint8))
    subject.pipeline.pop(2)  # the crop
    try:
        with pytest.raises(ValueError, match=r'one size, as a crop does, not torch.uint8 \(3, 70'):
            batch_of(subject, photos)
    finally:
        (photos / 'ant' / 'tall.png').unlink()


def test_scopes_of_configs_do_not_leak(photos, tmp_path):
    config, checkpoint = write_classifier(tmp_path, 'vit', photos)
    init_default_scope('mmengine')
    assert load_classifier(Source('it', config, checkpoint), 0, 3).classes == tuple(CLASSES)


def test_names_of_photos_need_not_be_utf_8(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / 'a.png').rename(tmp_path / os.fsdecode(b'\xff.png'))
    assert len(choose_photos(str(tmp_path), None, 0, False).digest) == 64
