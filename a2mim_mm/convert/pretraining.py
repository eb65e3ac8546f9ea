"""A whole pre-training: encoder, decoder, mask token and gate, to reconstruct with others' weights."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from a2mim_mm.checkpoints.read import load_checkpoint_file

from .encoder import ConversionError, Encoder
from .naming import Naming
from .origin import IMAGENET
from .targets import OPENMMLAB, Expression, Target

# Names of the other parts: in the authors' code, and here.
PARTS = {
    'mask_token.token': ('backbone.mask_token', 'mask_token.token'),
    'mask_token.gate': ('backbone.mask_gamma', 'mask_token.gate'),
    'neck.decoder.0.weight': ('neck.decoder_pred.0.weight', 'neck.decoder.0.weight'),
    'neck.decoder.0.bias': ('neck.decoder_pred.0.bias', 'neck.decoder.0.bias'),
}
# Where a token of a width goes in ResNet-50 and deeper (OpenMixup, mim_resnet.py: the input of a stage).
_RESNET_SITES = {64: 'maxpool', 256: 'layer1', 512: 'layer2', 1024: 'layer3'}


class Pretraining(Target):
    """A checkpoint like those of this package's pre-training, with the config that builds it."""

    title = 'a2mim'
    namings = OPENMMLAB
    suffixes = ('.pth',)

    def namings_for(self, encoder: Encoder, timm_model: str | None) -> Sequence[Naming]:
        if encoder.family not in ('ResNet', 'A2MIMViT') or encoder.cfg.get('depth', 50) < 50:
            raise ConversionError('a pre-training can be written for ResNet-50 and deeper, and for ViTs')
        return super().namings_for(encoder, timm_model)

    def write(self, expression: Expression, path: Path) -> None:
        parts = _parts_of(expression)
        weights = {f'backbone.{name}': tensor for name, tensor in expression.weights.items()} | parts
        settings = _config_of(expression, parts)
        text = '\n'.join(f'{name} = {value!r}' for name, value in settings.items())
        weights = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
        torch.save(dict(meta=dict(cfg=text), state_dict=weights), path)

    def read_back(self, expression: Expression, path: Path) -> nn.Module:
        weights = load_checkpoint_file(path)['state_dict']
        encoder = {
            name.removeprefix('backbone.'): tensor
            for name, tensor in weights.items()
            if name.startswith('backbone.')
        }
        return expression.naming.peer(expression.cfg, encoder)


def _parts_of(expression: Expression) -> dict[str, Tensor]:
    """Decoder, token and gate under this package's names."""
    parts = {}
    for name, names in PARTS.items():
        found = [expression.rest[other] for other in names if other in expression.rest]
        if found:
            parts[name] = found[0].flatten() if name.startswith('mask_token') else found[0]
        elif name != 'mask_token.gate':
            raise ConversionError(
                f'the source does not hold {" or ".join(names)}: only A2MIM pre-trainings, '
                "of this package or of the authors' code, can be converted to a2mim"
            )
    outputs, *_, kernel = parts['neck.decoder.0.weight'].shape
    if kernel != 1 or 3 * math.isqrt(outputs // 3) ** 2 != outputs:
        raise ConversionError("the source's decoder is not a 1 x 1 convolution to RGB patches")
    return parts


def _config_of(expression: Expression, parts: dict[str, Tensor]) -> dict:
    """The sections of a training's config that build the model and give the size of its images."""
    backbone, width = dict(expression.cfg), len(parts['mask_token.token'])
    vit = 'arch' in backbone
    if vit:
        backbone['out_type'] = 'featmap'
    site = 'patch_embed' if vit else _RESNET_SITES.get(width)
    if site is None:
        raise ConversionError(f'a token of {width} channels fits none of the stages of a ResNet')
    outputs, channels = parts['neck.decoder.0.weight'].shape[:2]
    gate = {} if 'mask_token.gate' not in parts else dict(gate_init=1e-6)
    mean, std = expression.mean_std or IMAGENET
    size = backbone.get('img_size', expression.input_hw or 224)
    return dict(
        model=dict(
            type='a2mim_mm.A2MIM',
            backbone=backbone,
            neck=dict(
                type='SimMIMLinearDecoder', in_channels=channels, encoder_stride=math.isqrt(outputs // 3)
            ),
            head=dict(type='a2mim_mm.A2MIMHead'),
            mask=dict(type='a2mim_mm.RandomPatchMask', patch_size=32, ratio=0.6),
            mask_token=dict(type='a2mim_mm.MaskToken', site=site, channels=width, mode='add', **gate),
            fill='mean',
        ),
        data_preprocessor=dict(
            type='SelfSupDataPreprocessor',
            mean=[255 * value for value in mean],
            std=[255 * value for value in std],
            to_rgb=True,
        ),
        train_dataloader=dict(dataset=dict(pipeline=[dict(type='a2mim_mm.RandomResizedCrop', scale=size)])),
    )
