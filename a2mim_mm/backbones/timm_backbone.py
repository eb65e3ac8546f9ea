"""Networks of timm as backbones: their features, under timm's own names."""

import difflib
import re
from functools import cache
from types import ModuleType

import torch
from torch import Tensor, nn

from a2mim_mm.errors import InputError
from a2mim_mm.libraries import timm
from a2mim_mm.registry import MODELS

from .dry_run import dry_run, input_size
from .sites import as_map

_VALUES = (bool, int, float, str, type(None))
_NOT_OF_TIMM = ('type', 'model_name', 'pretrained', 'out_indices')
_NAMED_HERE = ('num_classes', 'features_only', 'checkpoint_path', 'cache_dir', 'pretrained_cfg')


@MODELS.register_module(name='TimmBackbone')
def timm_backbone(
    model_name: str,
    pretrained: bool = False,
    in_chans: int = 3,
    img_size: int | tuple[int, int] | None = None,
    out_indices: tuple[int, ...] | None = None,
    **options: bool | int | float | str | None,
) -> nn.Module:
    """A network of timm without its classifier, which gives feature maps (B, C, h, w) in a tuple.

    It is timm's own network, ``timm.create_model(model_name, num_classes=0)``, with its names and weights;
    only what it returns is another. Nothing is downloaded unless ``pretrained`` says so. Parameters that
    features do not need, such as norms behind the pooling, are frozen.

    Args:
        model_name: As in ``timm.list_models()``. The tag of weights may follow (``resnet50.a1_in1k``).
        pretrained: Whether to load timm's weights, which may download them.
        in_chans: Number of channels of the images.
        img_size: Height and width of the images in pixels, for networks that are built for one size.
        out_indices: Stages, or layers of a ViT, whose maps are returned, as in timm's
            ``forward_intermediates``. None returns the map of ``forward_features``.
        **options: Further arguments of timm's ``create_model``, such as ``drop_path_rate``.

    Raises:
        ValueError: If timm is not installed, has no such model, or refuses the arguments, or if the features
            are not a map.
    """
    library = timm()
    _check_name(library, model_name)
    refused = [key for key, value in options.items() if key in _NAMED_HERE or not isinstance(value, _VALUES)]
    if refused:
        raise InputError(f'TimmBackbone takes no {", ".join(refused)}')
    options |= {} if img_size is None else dict(img_size=img_size)
    try:
        network = library.create_model(
            model_name, pretrained=pretrained, num_classes=0, in_chans=in_chans, **options
        )
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        advice = '; it takes images of any size: leave out img_size' if 'img_size' in str(error) else ''
        raise InputError(f'timm cannot build {model_name} with {options}: {error}{advice}') from error
    network.__class__ = _with_features(type(network))
    network.out_indices, network.in_chans = out_indices, in_chans
    if img_size is None and not hasattr(getattr(network, 'patch_embed', None), 'img_size'):
        img_size = network.pretrained_cfg['input_size'][1:]
    if img_size is not None:
        network.img_size = img_size
    for name in dry_run(network, (2, in_chans, *input_size(network)), _unused):
        network.get_parameter(name).requires_grad_(False)
    return network


def timm_call(cfg: dict) -> tuple[str, dict]:
    """Name and arguments with which ``timm.create_model`` builds the network of a config of this backbone."""
    return cfg['model_name'], {key: value for key, value in cfg.items() if key not in _NOT_OF_TIMM}


class _Features:
    """Mixed into a class of timm: the network gives features, and keeps the weights that it is built with."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.out_indices is not None:
            return tuple(
                self.forward_intermediates(
                    images, indices=list(self.out_indices), intermediates_only=True, output_fmt='NCHW'
                )
            )
        feat = self.forward_features(images)
        feat_bchw = as_map(feat, images.shape)
        if feat_bchw is None:
            shape = tuple(getattr(feat, 'shape', ())) or type(feat).__name__
            raise InputError(f'the features {shape} of images {tuple(images.shape)} are not a map')
        return (feat_bchw,)

    def init_weights(self, *_args: object) -> None:
        """Keep the weights. timm has drawn or loaded them when the network was built."""


@cache
def _with_features(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (_Features, kind), dict(__doc__=kind.__doc__))


def _unused(network: nn.Module, images: Tensor) -> list[str]:
    """Names of the parameters that the features do not depend on."""
    with torch.enable_grad():  # also where a network is built without gradients
        sum(feat.sum() for feat in network(images)).backward()
    return [name for name, parameter in network.named_parameters() if parameter.grad is None]


def _check_name(library: ModuleType, name: str) -> None:
    # timm also takes `hf-hub:` and `local-dir:`, whose networks and weights are described elsewhere.
    if isinstance(name, str) and re.fullmatch(r'[\w.-]+', name) and library.is_model(name):
        return
    near = difflib.get_close_matches(str(name), library.list_models(), n=5)
    raise InputError(
        f'timm {library.__version__} has no model {name!r}'
        + (f'; the nearest names are {", ".join(near)}' if near else ': timm.list_models() names them')
    )
