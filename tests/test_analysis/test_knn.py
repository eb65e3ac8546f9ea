"""The k nearest neighbours and their votes are scikit-learn's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from a2mim_mm.analysis import knn
from a2mim_mm.analysis.knn import knn_scores


def problem(seed, n=60, m=25, d=8, classes=4):
    """Features around a centre for each class, of very different lengths."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, d))
    labels = np.concatenate([np.arange(classes), rng.integers(classes, size=n - classes)])
    length = rng.uniform(0.01, 100, size=(n + m, 1))
    features = (
        centres[np.concatenate([labels, rng.integers(classes, size=m)])] + rng.normal(size=(n + m, d))
    ) * length
    bank, query = torch.tensor(features[:n]), torch.tensor(features[n:])
    return bank, torch.tensor(labels), query


def sklearn_scores(bank, labels, query, k, temperature):
    classifier = KNeighborsClassifier(
        k, metric='cosine', algorithm='brute', weights=lambda distance: np.exp((1 - distance) / temperature)
    )
    return classifier.fit(bank.numpy(), labels.numpy()).predict_proba(query.numpy())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.floats(0.02, 2.0))
def test_votes_are_those_of_scikit_learn(seed, k, temperature):
    bank, labels, query = problem(seed)
    scores = knn_scores(bank, labels, query, 4, k, temperature)
    np.testing.assert_allclose(
        scores, sklearn_scores(bank, labels, query, k, temperature), rtol=1e-9, atol=1e-12
    )


def test_queries_are_worked_off_in_chunks(monkeypatch):
    bank, labels, query = problem(0)
    whole = knn_scores(bank, labels, query, 4)
    monkeypatch.setattr(knn, '_CHUNK', 7)
    # BLAS may sum the products of another shape in another order.
    torch.testing.assert_close(knn_scores(bank, labels, query, 4), whole)


def test_a_small_temperature_leaves_the_vote_to_the_nearest():
    bank, labels, query = problem(1)
    nearest = knn_scores(bank, labels, query, 4, k=1)
    sharp = knn_scores(bank.float(), labels, query.float(), 4, k=20, temperature=1e-4)
    assert torch.equal(sharp.argmax(1), nearest.argmax(1))
    assert sharp.isfinite().all()


def test_classes_without_an_image_get_no_vote():
    bank, labels, query = problem(2)
    scores = knn_scores(bank, labels, query, 9)
    assert scores.shape == (25, 9)
    assert (scores[:, 4:] == 0).all()
    torch.testing.assert_close(scores.sum(1), torch.ones(25, dtype=scores.dtype))


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(k=0), '1..60'),
        (dict(num_classes=3), r'0\.\.2, got 0\.\.3'),
        (dict(k=61), '1..60'),
        (dict(temperature=0.0), 'positive'),
        (dict(temperature=float('nan')), 'positive'),
    ],
)
def test_values_out_of_range_are_refused(options, words):
    bank, labels, query = problem(3)
    with pytest.raises(ValueError, match=words):
        knn_scores(bank, labels, query, **{'num_classes': 4, **options})
