"""What is chosen for a user: typed tables and properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2mim_mm.errors import InputError
from a2mim_mm.pretraining import defaults

CNN = {4, 8, 16, 32}
# The table of docs/any_backbone.md: images, strides of the network, mask patch.
PATCHES = [
    ((32, 32), {1, 2, 4, 8}, 4),
    ((64, 64), CNN, 8),
    ((96, 96), CNN, 16),
    ((128, 128), CNN, 16),
    ((224, 224), CNN, 32),
    ((224, 224), {16}, 32),
    ((224, 224), {14}, 28),
    ((384, 384), CNN, 64),
    ((512, 512), CNN, 64),
    ((96, 128), CNN, 16),
    ((256, 192), CNN, 32),
    ((64, 64), {16, 32}, 16),
]


@pytest.mark.parametrize('size_hw, strides, patch', PATCHES)
def test_mask_patch(size_hw, strides, patch):
    assert defaults.choose_mask_patch(size_hw, strides) == patch


@given(st.integers(16, 640), st.integers(16, 640), st.sets(st.sampled_from([4, 8, 14, 16, 32]), min_size=1))
def test_mask_patch_divides_the_image_or_is_refused(height, width, strides):
    try:
        patch = defaults.choose_mask_patch((height, width), strides)
    except InputError:
        assert not any(
            min(height, width) % count == 0 == max(height, width) % (min(height, width) // count)
            for count in range(4, 17)
            if min(height, width) // count >= min(strides)
        )
    else:
        assert height % patch == width % patch == 0
        assert 4 <= min(height, width) / patch <= 16 and patch >= min(strides)


def test_a_prime_size_is_refused_with_one_that_works():
    with pytest.raises(InputError, match='97 x 97.* take 96 x 96'):
        defaults.choose_mask_patch((97, 97), CNN)
    with pytest.raises(InputError, match='at least 16 pixels.* take 64 x 64'):
        defaults.choose_mask_patch((32, 32), {16})


@pytest.mark.parametrize('images, epochs', [(1_281_167, 300), (128_117, 949), (50_000, 1519), (12, 1600)])
def test_epochs(images, epochs):
    assert defaults.choose_epochs(images) == epochs
    assert defaults.choose_epochs_from_weights(images) == epochs // 3


@pytest.mark.parametrize(
    'images, fitting, ranks, batch',
    [
        (1_281_167, 4096, 1, 2048),
        (1_281_167, 4096, 8, 256),
        (1_281_167, 100, 1, 64),
        (50_000, 4096, 1, 2048),
        (3_000, 4096, 1, 128),
        (100, 4096, 1, 16),
        (12, 4096, 1, 12),
        (3, 4096, 2, 1),
    ],
)
def test_batch(images, fitting, ranks, batch):
    assert defaults.choose_batch(images, fitting, ranks) == batch


def test_warm_up_and_lr():
    assert [defaults.choose_warmup(epochs) for epochs in (1, 5, 40, 100, 1600)] == [1, 1, 4, 10, 10]
    assert defaults.scale_lr(1.2e-3, 2048, 2048) == 1.2e-3
    assert defaults.scale_lr(1.2e-3, 2048, 128) == pytest.approx(3e-4)
