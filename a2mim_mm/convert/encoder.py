"""The pivot of all conversions: an encoder of this package, as a config and its weights.

Names and classes are those that the training configs use: mmpretrain's ``ResNet``, ``ConvNeXt`` and
``SwinTransformer``, and :class:`a2mim_mm.models.A2MIMViT`, which holds every Vision Transformer.
"""

from dataclasses import dataclass, field, replace

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from a2mim_mm.checkpoints.load import load_strictly
from a2mim_mm.errors import InputError
from a2mim_mm.registry import MODELS


class ConversionError(InputError):
    """A checkpoint that is none of the formats, or cannot be expressed in the one that is asked for."""


@dataclass(frozen=True)
class Encoder:
    """An encoder without what was trained around it.

    Args:
        cfg: Its config, ``type`` with scope; the class takes ``weights`` strictly.
        weights: Names and tensors.
        folded: What of the source is expressed by other names or needs none, and why: q bias and v bias
            that became one, index tables that are computed.
    """

    cfg: dict
    weights: dict[str, Tensor]
    folded: dict[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """Class name without its scope, such as ``'A2MIMViT'``."""
        return self.cfg['type'].rpartition('.')[2]

    def build(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The network, in evaluation mode, all weights loaded.

        Raises:
            CheckpointError: If the weights do not fill it exactly.
        """
        network = build_backbone(self.cfg).to(dtype)
        load_strictly(network, dict(self.weights), 'the encoder')
        network.eval()
        return network


def build_backbone(cfg: dict) -> nn.Module:
    """A network with random weights from a config of a registered backbone."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(dict(cfg))


def build_without_weights(cfg: dict) -> nn.Module:
    """A network for names and shapes: parameters have no storage, buffers have their values."""
    with _NoStorage():
        return build_backbone(cfg)


class _NoStorage(TorchFunctionMode):
    """Puts what ``torch.empty`` makes, as modules do for their weights, on the meta device.

    All of a network under ``torch.device('meta')`` is impossible: mmpretrain's reads numbers off a tensor.
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
        ConversionError: If the patch does not divide the size, or the encoder is no ViT.
    """
    if encoder.family != 'A2MIMViT':
        raise ConversionError(
            f'--img-size is for the positions of a ViT, this is a {encoder.family}: leave it out, CNNs take '
            'any size'
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
