"""Pictures of what a model predicts."""

import numpy as np
import pytest
import torch
from helpers import algorithms, reference

from a2mim_mm.models.reconstruct import draw_mask, reconstruct


def drawn(algorithm, images=None, seed=0, **kwargs):
    """Pictures of some photos under masks that follow from a seed."""
    images = algorithms.photos() if images is None else images
    return reconstruct(algorithm, images, draw_mask(algorithm, images, seed), **kwargs)


@algorithms.BOTH
@pytest.mark.parametrize('use_token', [True, False])
def test_reconstruct(name, use_token):
    algorithm = algorithms.build(name)
    photos = algorithms.photos()
    mask = reference.random_mask(np.random.default_rng(5).random((3, 4, 6)), 0.6)
    pictures = reconstruct(algorithm, photos, mask=torch.tensor(mask).float(), use_token=use_token)

    assert set(pictures) == {'original', 'masked', 'prediction', 'composite'}
    for picture in pictures.values():
        assert picture.shape == photos.shape
        assert picture.dtype == torch.float32
        assert not picture.requires_grad
        assert picture.min() >= 0 and picture.max() <= 1
    hidden = torch.tensor(np.kron(mask, np.ones((1, 16, 16))))[:, None].expand(-1, 3, -1, -1) == 1
    assert torch.equal(pictures['original'], photos)
    assert torch.equal(pictures['composite'][~hidden], photos[~hidden])
    assert torch.equal(pictures['composite'][hidden], pictures['prediction'][hidden])
    assert torch.equal(pictures['masked'][~hidden], photos[~hidden])
    filled = reference.mean_fill(photos.double().numpy(), hidden.numpy())
    np.testing.assert_allclose(pictures['masked'].numpy(), filled, atol=1e-5)

    algorithm.eval()
    with torch.no_grad():
        _, pred = algorithms.by_hand(algorithm, algorithms.normalise(photos), mask, use_token)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (algorithms.MEAN, algorithms.STD))
    expected = ((pred * std + mean) / 255).clamp(0, 1)
    torch.testing.assert_close(pictures['prediction'], expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize(('name', 'parts'), [('vit', {}), ('resnet', dict(mask_token=None))])
def test_reconstruct_at_another_size_and_without_a_token(name, parts):
    pictures = drawn(algorithms.build(name, **parts), algorithms.photos(2, (96, 64)))
    assert pictures['composite'].shape == (2, 3, 96, 64)


def test_masks_follow_from_the_seed_and_the_number_of_the_image():
    algorithm, photos = algorithms.build('resnet'), algorithms.photos()
    whole = draw_mask(algorithm, photos, seed=0)
    assert torch.equal(draw_mask(algorithm, photos[:1], seed=0, first=2), whole[2:])
    assert not torch.equal(draw_mask(algorithm, photos, seed=1), whole)


@pytest.mark.parametrize('training', [True, False])
def test_reconstruct_restores_the_mode_and_changes_nothing(training):
    algorithm = algorithms.build('resnet')
    algorithm.train(training)
    algorithm.backbone.layer1.eval()  # as a person does who freezes its statistics
    before = {key: value.clone() for key, value in algorithm.state_dict().items()}
    modes = [module.training for module in algorithm.modules()]
    drawn(algorithm)
    assert [module.training for module in algorithm.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in algorithm.state_dict().items())
    assert torch.is_grad_enabled()
    assert all(param.grad is None for param in algorithm.parameters())


def test_reconstruct_restores_the_mode_after_an_error():
    algorithm = algorithms.build('resnet', neck=dict(algorithms.RESNET['neck'], encoder_stride=16))
    algorithm.train()
    with pytest.raises(ValueError, match='encoder_stride'):
        drawn(algorithm)
    assert algorithm.training


@pytest.mark.parametrize(
    ('images', 'words'),
    [
        (torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8), 'uint8'),
        (torch.full((1, 3, 64, 96), 255.0), '255'),
        (torch.full((1, 3, 64, 96), -1.0), '-1'),
        (torch.full((1, 3, 60, 96), 0.5), '60'),
    ],
    ids=['bytes', '0..255', 'normalised', 'size'],
)
def test_reconstruct_refuses_other_images(images, words):
    with pytest.raises(ValueError, match=words):
        drawn(algorithms.build('resnet'), images)


def test_reconstruct_refuses_a_mask_of_another_grid():
    with pytest.raises(ValueError, match=r'(?s)4, 6.*6, 4'):
        reconstruct(algorithms.build('resnet'), algorithms.photos(), mask=torch.ones(3, 6, 4))
