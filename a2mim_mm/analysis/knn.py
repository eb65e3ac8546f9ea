"""Classification by nearest neighbours of frozen features: a check that needs no training.

Shape suffixes: n images of the bank, m queries, d feature width, k neighbours, c classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from a2mim_mm.errors import InputError

_CHUNK = 1024  # queries at a time: their similarities to a bank of 1.3 million take 5 GB


def check_neighbours(num_images: int, k: int, temperature: float) -> None:
    """Check what :func:`knn_scores` takes, for a bank of ``num_images``, before its features are at hand.

    Raises:
        ValueError: If k or the temperature is out of range.
    """
    if not 1 <= k <= num_images:
        raise InputError(f'k must be in 1..{num_images}, the number of images in the bank, got {k}')
    if not temperature > 0:
        raise InputError(f'temperature must be positive, got {temperature}')


def knn_scores(
    bank_nd: Tensor,
    labels_n: Tensor,
    query_md: Tensor,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> Tensor:
    """Votes of the k nearest neighbours by cosine similarity s, each weighted by exp(s / temperature).

    After Wu et al., "Unsupervised feature learning via non-parametric instance discrimination" (2018),
    Section 3.4, with the k and temperature of DINO's evaluation.

    Args:
        bank_nd: (n, d) features with known classes, of any length.
        labels_n: (n,) their classes, in 0..num_classes - 1.
        query_md: (m, d) features to classify.
        num_classes: Number of classes.
        k: Number of neighbours, at most n.
        temperature: Positive; the smaller, the more the nearest ones count.

    Returns:
        (m, num_classes) votes, of which each row sums to 1.

    Raises:
        ValueError: If k, the temperature or a class is out of range.
    """
    check_neighbours(len(bank_nd), k, temperature)
    if labels_n.min() < 0 or labels_n.max() >= num_classes:
        raise InputError(
            f'classes must be in 0..{num_classes - 1}, got {labels_n.min().item()}..{labels_n.max().item()}'
        )
    bank_dn = F.normalize(bank_nd, dim=1).T
    votes = []
    for chunk_md in query_md.split(_CHUNK):
        similarity_mk, index_mk = (F.normalize(chunk_md, dim=1) @ bank_dn).topk(k, dim=1)
        weight_mk = (similarity_mk / temperature).softmax(dim=1)  # over the neighbours: cannot overflow
        votes.append(
            weight_mk.new_zeros(len(chunk_md), num_classes).scatter_add_(1, labels_n[index_mk], weight_mk)
        )
    return torch.cat(votes)
