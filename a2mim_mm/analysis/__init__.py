"""What a trained network has learnt, measured without training it further."""

from .knn import check_neighbours, knn_scores

__all__ = ['check_neighbours', 'knn_scores']
