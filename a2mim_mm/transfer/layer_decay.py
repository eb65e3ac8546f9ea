"""Layer-wise learning rate decay for models whose backbone knows its depth."""

from collections.abc import Callable
from functools import partial

from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn

from a2mim_mm.errors import InputError
from a2mim_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's layer-wise decay, for classifiers, detectors and segmentors.

    A parameter of depth d gets lr * decay^(D - d - 1), where ``model.backbone.get_layer_depth`` gives (d, D).
    Parameters outside of the backbone have the last depth, D - 1, and so the full lr. ``paramwise_cfg`` is
    mmpretrain's: ``layer_decay_rate``, ``norm_decay_mult``, ``bias_decay_mult``, ``flat_decay_mult``,
    ``custom_keys``.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        get_layer_depth: Callable | None = None,
        **kwargs,
    ) -> None:
        """Adds the parameters of ``module`` and below to ``params``.

        Raises:
            ValueError: If the model's backbone has no ``get_layer_depth``.
        """
        if get_layer_depth is None:
            backbone = getattr(module, 'backbone', None)
            if not hasattr(backbone, 'get_layer_depth'):
                raise InputError(
                    f'layer-wise decay needs a backbone with get_layer_depth, such as a2mim_mm.A2MIMViT; the '
                    f'{type(module).__name__} has {type(backbone).__name__}'
                )
            get_layer_depth = partial(backbone.get_layer_depth, prefix='backbone.')
        super().add_params(params, module, prefix=prefix, get_layer_depth=get_layer_depth, **kwargs)
