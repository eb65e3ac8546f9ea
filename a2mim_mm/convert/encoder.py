"""The pivot of all conversions: an encoder of this package, as a config and its weights.

Names and classes are those of the training configs: mmpretrain's ``ResNet``, ``ConvNeXt`` and
``SwinTransformer``, and :class:`a2mim_mm.backbones.A2MIMViT`, which holds every Vision Transformer.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from a2mim_mm.checkpoints.load import build_network, load_network
from a2mim_mm.errors import InputError


class ConversionError(InputError):
    """The format of a checkpoint is not known, or the target format cannot hold it."""


@dataclass(frozen=True)
class Own:
    """What is known of a network that no format names.

    Args:
        library: Whose network it is, and whose names the weights have: ``'timm'`` or ``'mmpretrain'``.
        title: Library and name of the network.
        image_chw: Channels, height and width of an image that it takes.
    """

    library: str
    title: str
    image_chw: tuple[int, int, int]


@dataclass(frozen=True)
class Encoder:
    """An encoder without what was trained around it.

    Args:
        cfg: Its config, with a scope in ``type``. The class takes ``weights`` strictly.
        weights: Names and tensors.
        folded: Names of the source without a counterpart, and why: q bias and v bias that became one, index
            tables that are computed.
        own: For a network that no format names.
    """

    cfg: dict
    weights: dict[str, Tensor]
    folded: dict[str, str] = field(default_factory=dict)
    own: Own | None = None

    @property
    def family(self) -> str:
        """Class name without its scope, such as ``'A2MIMViT'``."""
        return self.cfg['type'].rpartition('.')[2]

    def build(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The network, in evaluation mode, all weights loaded.

        Raises:
            CheckpointError: If the weights do not fill it exactly.
        """
        return load_network(self.cfg, self.weights, 'the encoder').to(dtype)


def build_without_weights(cfg: dict) -> nn.Module:
    """Build a network for its names and shapes. Parameters are on the meta device; buffers have values."""
    with _NoStorage():
        return build_network(cfg)


class _NoStorage(TorchFunctionMode):
    """Puts on the meta device what ``torch.empty`` makes, which modules call for their weights.

    A whole network cannot be built under ``torch.device('meta')``: mmpretrain reads numbers off a tensor.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs['device'] = 'meta'
        return func(*args, **kwargs)


def resized(encoder: Encoder, img_size: int) -> tuple[Encoder, list[str]]:
    """The encoder with position embedding and bias tables for another input size.

    Args:
        encoder: A Vision Transformer.
        img_size: Height and width in pixels.

    Returns:
        The encoder, and the names of the tensors that were resampled.

    Raises:
        ConversionError: If the patch does not divide the size, or the encoder is not a ViT.
    """
    if encoder.family != 'A2MIMViT':
        raise ConversionError(
            f'--img-size is for the positions of a ViT, but this is a {encoder.family}: leave it out, '
            'CNNs take any size'
        )
    if img_size < 1 or img_size % encoder.cfg['patch_size']:
        raise ConversionError(
            f'--img-size must be a positive multiple of the patch size {encoder.cfg["patch_size"]}, '
            f'got {img_size}'
        )
    larger = replace(encoder, cfg={**encoder.cfg, 'img_size': img_size})
    weights = {name: tensor.cpu() for name, tensor in larger.build().state_dict().items()}
    names = [name for name, tensor in weights.items() if tensor.shape != encoder.weights[name].shape]
    resampled = {name: weights[name].to(encoder.weights[name].dtype) for name in names}
    return replace(larger, weights={**encoder.weights, **resampled}), names
