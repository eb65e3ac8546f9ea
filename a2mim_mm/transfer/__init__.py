"""What detectors, segmentors and classifiers need around a pre-trained backbone."""

from .layer_decay import LayerDecayOptimWrapperConstructor
from .pyramid import ViTPyramid
from .shared_stage import ResLayerExtraNorm

__all__ = ['LayerDecayOptimWrapperConstructor', 'ResLayerExtraNorm', 'ViTPyramid']
