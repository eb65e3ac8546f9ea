"""A whole pre-training: encoder, decoder, mask token and gate, for reconstructions from others' weights."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from a2mim_mm.checkpoints.read import load_checkpoint_file

from .encoder import ConversionError, Encoder
from .targets import Expression, OpenMMLab, Target

# What the authors' code, and this package, call the parts beside the encoder.
PARTS = {
    'mask_token.token': ('backbone.mask_token', 'mask_token.token'),
    'mask_token.gate': ('backbone.mask_gamma', 'mask_token.gate'),
    'neck.decoder.0.weight': ('neck.decoder_pred.0.weight', 'neck.decoder.0.weight'),
    'neck.decoder.0.bias': ('neck.decoder_pred.0.bias', 'neck.decoder.0.bias'),
}
# Where a token of a width goes in ResNet-50 and deeper (OpenMixup, mim_resnet.py: the input of a stage).
_RESNET_SITES = {64: 'maxpool', 256: 'layer1', 512: 'layer2', 1024: 'layer3'}


class Pretraining(Target):
    """A checkpoint of this package's own pre-training, with the config that builds it."""

    title = 'a2mim'
    suffixes = ('.pth',)

    def express(self, encoder: Encoder, mean_std: tuple | None, timm_model: str | None) -> Expression:
        """See :meth:`Target.express`."""
        if encoder.family not in ('ResNet', 'A2MIMViT') or encoder.cfg.get('depth', 50) < 50:
            raise ConversionError('a pre-training is written of ResNet-50 and deeper, and of ViTs')
        return OpenMMLab(self.title).express(encoder, mean_std, None)

    def write(self, expression: Expression, path: Path) -> None:
        """See :meth:`Target.write`.

        Raises:
            ConversionError: If the source holds no decoder or token, or ones of another form.
        """
        parts = _parts_of(expression)
        weights = {f'backbone.{name}': tensor for name, tensor in expression.weights.items()} | parts
        settings = _config_of(expression, parts)
        text = '\n'.join(f'{name} = {value!r}' for name, value in settings.items())
        weights = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
        torch.save(dict(meta=dict(cfg=text), state_dict=weights), path)

    def read_back(self, expression: Expression, path: Path) -> nn.Module:
        """See :meth:`Target.read_back`."""
        weights = load_checkpoint_file(path)['state_dict']
        encoder = {
            name.removeprefix('backbone.'): tensor
            for name, tensor in weights.items()
            if name.startswith('backbone.')
        }
        return expression.naming.peer(expression.cfg, encoder)


def _parts_of(expression: Expression) -> dict[str, Tensor]:
    """Decoder, token and gate by this package's names."""
    parts = {}
    for name, names in PARTS.items():
        found = [expression.rest[other] for other in names if other in expression.rest]
        if found:
            parts[name] = found[0].flatten() if name.startswith('mask_token') else found[0]
        elif name != 'mask_token.gate':
            raise ConversionError(
                f'the source holds no {" or ".join(names)}: only A2MIM pre-trainings, of this package or of '
                "the authors' code, are written as such"
            )
    outputs, *_, kernel = parts['neck.decoder.0.weight'].shape
    if kernel != 1 or 3 * math.isqrt(outputs // 3) ** 2 != outputs:
        raise ConversionError("the source's decoder is no 1 x 1 convolution to RGB patches")
    return parts


def _config_of(expression: Expression, parts: dict[str, Tensor]) -> dict:
    """The sections of a training's config that build the model and tell the size of its images."""
    backbone, width = dict(expression.cfg), len(parts['mask_token.token'])
    vit = 'arch' in backbone
    if vit:
        backbone['out_type'] = 'featmap'
    site = 'patch_embed' if vit else _RESNET_SITES.get(width)
    if site is None:
        raise ConversionError(f'no stage of a ResNet takes a token of {width} channels')
    outputs, channels = parts['neck.decoder.0.weight'].shape[:2]
    gate = {} if 'mask_token.gate' not in parts else dict(gate_init=1e-6)
    mean, std = expression.mean_std or ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
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
