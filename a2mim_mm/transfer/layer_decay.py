"""Layer-wise learning rate decay for models with any backbone."""

from collections.abc import Callable
from functools import partial

from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn

from a2mim_mm.backbones.sites import blocks
from a2mim_mm.errors import InputError
from a2mim_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's layer-wise decay, for pre-trainings, classifiers, detectors and segmentors.

    A parameter of depth d gets lr * decay^(D - d - 1), where ``model.backbone.get_layer_depth`` gives (d, D),
    or :func:`block_depth` for a backbone without this method. Parameters outside of the backbone have the
    last depth, D - 1, and so the full lr. ``paramwise_cfg`` is
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
            ValueError: If the model has no backbone.
        """
        if get_layer_depth is None:
            backbone = getattr(module, 'backbone', None)
            if backbone is None:
                raise InputError(
                    f'layer-wise decay needs a model with a backbone, not a {type(module).__name__}'
                )
            get_layer_depth = partial(_depth_in(backbone), prefix='backbone.')
        super().add_params(params, module, prefix=prefix, get_layer_depth=get_layer_depth, **kwargs)


def _depth_in(backbone: nn.Module) -> Callable[..., tuple[int, int]]:
    """The backbone's own depths, or where it has none, those of its blocks."""
    own = getattr(backbone, 'get_layer_depth', None)
    try:
        if own is not None:
            own(next(name for name, _ in backbone.named_parameters()))
            return own
    except NotImplementedError:  # mmpretrain's ResNet knows the depths of ResNet-50 only
        pass
    return partial(block_depth, backbone)


def block_depth(backbone: nn.Module, param_name: str, prefix: str = '') -> tuple[int, int]:
    """Depth of a parameter, counted in blocks as :mod:`a2mim_mm.backbones.sites` finds them.

    Args:
        backbone: Any network.
        param_name: Name of the parameter in the model.
        prefix: What stands before the names of the backbone.

    Returns:
        The depth: 0 before the first block, n in and behind the n-th block, in the order of the modules. And
        the number of depths, two more than there are blocks. Outside of the backbone it is the last depth.
    """
    names = blocks(backbone)
    if not param_name.startswith(prefix):
        return len(names) + 1, len(names) + 2
    order = {name: place for place, (name, _) in enumerate(backbone.named_modules())}
    module = param_name.removeprefix(prefix).rpartition('.')[0]
    return sum(order[name] <= order[module] for name in names), len(names) + 2
