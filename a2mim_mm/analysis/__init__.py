"""What a trained network has learnt, measured without training it further."""

from .knn import knn_scores

__all__ = ['knn_scores']
