"""Accuracy under occlusion, of networks whose answer can be told beforehand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from a2mim_mm.analysis.occlusion import (
    correct_when_occluded,
    drop_counts,
    random_ranking,
    salient_ranking,
)
from a2mim_mm.analysis.patches import hide_patches

GRID = (4, 5)
COLOUR = torch.full((3, 1, 1), -7.0)  # no image has it


def images(count, seed=0, patch=2):
    shape = (count, 3, GRID[0] * patch, GRID[1] * patch)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def hidden_patches(image_b3hw, patch=2):
    """Which patches (b, n) have the colour of hidden ones."""
    hidden = (image_b3hw == -7).all(dim=1).float()
    return torch.nn.functional.avg_pool2d(hidden, patch).flatten(1)


@pytest.mark.parametrize('num_patches', [16, 20, 49, 196])
def test_counts_are_rounded_shares(num_patches):
    ratios = [tenth / 10 for tenth in range(10)] + [1]
    counts = drop_counts(ratios, num_patches)
    assert counts == [round(ratio * num_patches) for ratio in ratios]
    assert counts[0] == 0 and counts[-1] == num_patches
    if num_patches == 196:  # where the code of Naseer et al. has 196 * tenth // 10
        assert counts[:10] == [0, 20, 39, 59, 78, 98, 118, 137, 157, 176]


@pytest.mark.parametrize('ratios', [[], [-0.1], [0.5, 1.01]])
def test_ratios_out_of_range(ratios):
    with pytest.raises(ValueError, match=r'must lie in 0\.\.1'):
        drop_counts(ratios, 16)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_exactly_so_many_patches_are_hidden_and_stay_so(seed, ratios):
    seen = []

    def network(img_b3hw):
        seen.append(hidden_patches(img_b3hw))
        return torch.zeros(len(img_b3hw), 2)

    counts = sorted(drop_counts(ratios, 20))
    ranking = random_ranking(seed, 0, range(3), 20)
    correct_when_occluded(network, images(3), torch.zeros(3).long(), ranking, counts, GRID, COLOUR)
    for count, hidden_bn in zip(counts, seen, strict=True):
        assert set(hidden_bn.unique().tolist()) <= {0, 1}
        assert hidden_bn.sum(1).tolist() == [count] * 3
    for fewer, more in zip(seen, seen[1:], strict=False):
        assert (fewer <= more).all()


def test_without_occlusion_it_is_plain_accuracy():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 10, 4))
    img, labels = images(50), torch.arange(50) % 4
    ranking = random_ranking(0, 0, range(50), 20)
    correct = correct_when_occluded(network, img, labels, ranking, [0, 20], GRID, COLOUR)
    plain = network(img).argmax(1) == labels
    assert torch.equal(correct[0], plain) and 0 < plain.float().mean() < 1
    nothing = network(COLOUR.expand(1, 3, 8, 10)).argmax(1)
    assert torch.equal(correct[1], labels == nothing)


def test_a_network_that_looks_at_a_corner_only():
    """Right if it sees the first patch: of n patches, round(r n) hidden, it does so in 1 - round(r n) / n."""

    def network(img_b3hw):
        visible = (img_b3hw[:, :, 0, 0] != -7).all(dim=1).float()
        return torch.stack([visible, 1 - visible], dim=1)

    count, counts = 3000, [0, 3, 7, 10, 18, 20]
    ranking = random_ranking(5, 2, range(count), 20)
    correct = correct_when_occluded(
        network, images(count), torch.zeros(count).long(), ranking, counts, GRID, COLOUR
    )
    for hidden, right in zip(counts, correct, strict=True):
        assert torch.equal(right, ranking[:, 0] >= hidden)
        p = 1 - hidden / 20
        assert abs(right.double().mean().item() - p) <= 4.5 * np.sqrt(p * (1 - p) / count)


def test_rankings_follow_from_seed_repeat_and_image():
    first = random_ranking(0, 0, range(6), 30)
    assert first.sort(1).values.tolist() == [list(range(30))] * 6
    assert torch.equal(random_ranking(0, 0, [4, 2], 30), first[[4, 2]])
    others = [first[0], first[1], random_ranking(1, 0, [0], 30)[0], random_ranking(0, 1, [0], 30)[0]]
    assert len({tuple(ranking.tolist()) for ranking in others}) == 4


@pytest.mark.parametrize('grid', [(4, 5), (3, 3), (8, 10)])  # the second does not divide the image
@pytest.mark.parametrize('seed', range(4))
def test_of_a_linear_network_saliency_is_what_hiding_each_patch_costs(seed, grid):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(2, 3 * 8 * 10, generator=generator, dtype=torch.float64)
    network = nn.Linear(240, 2).double()
    network.weight.data.copy_(weight)
    img, labels = images(4, seed).double(), torch.tensor([0, 1, 1, 0])
    colour = torch.tensor([0.3, 0.5, 0.1], dtype=torch.float64)[:, None, None]
    with torch.no_grad():  # saliency needs gradients all the same
        ranking = salient_ranking(lambda x: network(x.flatten(1)), img, labels, grid, colour)
    only = torch.eye(grid[0] * grid[1]).bool()
    for image, label, ranks in zip(img, labels, ranking, strict=True):
        change = image[None] - hide_patches(image[None], only, grid, colour)
        costs = change.flatten(1) @ (weight[0] - weight[1]) * (1 if label == 0 else -1)
        assert ranks.argsort().tolist() == costs.argsort(descending=True).tolist()
    assert network.weight.grad is None and not img.requires_grad


def test_a_network_that_gives_no_numbers():
    with pytest.raises(ValueError, match='not finite'):
        correct_when_occluded(
            lambda img_b3hw: torch.full((2, 3), torch.nan),
            images(2),
            torch.zeros(2).long(),
            random_ranking(0, 0, range(2), 20),
            [0],
            GRID,
            COLOUR,
        )
