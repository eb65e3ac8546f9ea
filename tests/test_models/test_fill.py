"""What hidden input pixels are filled with."""

import numpy as np
import pytest
import torch
from helpers import reference

from a2mim_mm.models.fill import Fill


def draw(size=(6, 9)):
    """Images whose channels and samples have different means, and masks."""
    rng = torch.Generator().manual_seed(0)
    offset = torch.arange(6.0).view(2, 3, 1, 1)
    img = torch.randn(2, 3, *size, generator=rng) + offset
    mask = (torch.rand(2, 1, *size, generator=rng) < 0.6).float()
    return img, mask


def test_mean_is_that_of_each_image_and_channel_over_all_its_pixels():
    img, mask = draw()
    filled = Fill()(img, mask)
    np.testing.assert_allclose(
        filled.numpy(), reference.mean_fill(img.double().numpy(), mask.numpy()), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize('mode', ['mean', 'zero', 'token', 'none'])
def test_visible_pixels_are_untouched(mode):
    img, mask = draw()
    before, hidden = img.clone(), (mask == 1).expand_as(img)
    filled = Fill(mode)(img, mask)
    assert torch.equal(filled[~hidden], before[~hidden]) and torch.equal(img, before)
    if mode == 'zero':
        assert (filled[hidden] == 0).all()
    if mode == 'none':
        assert torch.equal(filled, img)


def test_token_is_one_learnable_colour():
    img, mask = draw()
    fill = Fill('token')
    ((name, token),) = fill.named_parameters()
    with torch.no_grad():
        token.copy_(torch.tensor([1.0, -2.0, 3.0]).view_as(token))
    filled = fill(img, mask)
    colour = torch.tensor([1.0, -2.0, 3.0]).view(1, 3, 1, 1).expand_as(img)
    hidden = (mask == 1).expand_as(img)
    assert torch.equal(filled[hidden], colour[hidden])
    filled.sum().backward()
    assert token.grad.flatten().tolist() == [mask.sum().item()] * 3


@pytest.mark.parametrize('mode', ['median', '', None])
def test_unknown_mode_is_refused_with_what_is_allowed(mode):
    with pytest.raises(ValueError, match=rf'(?s)fill.*mean.*zero.*token.*none.*{mode}'):
        Fill(mode)
