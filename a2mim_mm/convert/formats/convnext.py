"""ConvNeXt: names of mmpretrain (and OpenMixup, mmcls), of timm, and of facebookresearch.

An encoder without a last norm, as SparK pre-trains it, has no ``out_indices`` in the pivot: mmpretrain makes a norm
for each.
"""

from torch import Tensor, nn

from ..encoder import ConversionError, Encoder, build_backbone
from ..libraries import timm
from ..naming import Hints, Naming, Peer, TimmNaming, Weights, check_against, count, rename, require, swapped

_NORM = 'norm3'
TIMM_NAMES = [
    ('downsample_layers.0.*.*', 'stem.*.*'),
    ('downsample_layers.*.*.*', 'stages.*.downsample.*.*'),
    ('stages.*.*.depthwise_conv.*', 'stages.*.blocks.*.conv_dw.*'),
    ('stages.*.*.norm.*', 'stages.*.blocks.*.norm.*'),
    ('stages.*.*.pointwise_conv1.*', 'stages.*.blocks.*.mlp.fc1.*'),
    ('stages.*.*.pointwise_conv2.*', 'stages.*.blocks.*.mlp.fc2.*'),
    ('stages.*.*.gamma', 'stages.*.blocks.*.gamma'),
    (f'{_NORM}.*', 'head.norm.*'),
]
NAMES = [
    ('downsample_layers.*.*.*', 'downsample_layers.*.*.*'),
    ('stages.*.*.depthwise_conv.*', 'stages.*.*.dwconv.*'),
    ('stages.*.*.norm.*', 'stages.*.*.norm.*'),
    ('stages.*.*.pointwise_conv1.*', 'stages.*.*.pwconv1.*'),
    ('stages.*.*.pointwise_conv2.*', 'stages.*.*.pwconv2.*'),
    ('stages.*.*.gamma', 'stages.*.*.gamma'),
    (f'{_NORM}.*', 'norm.*'),
]


def convnext_encoder(weights: Weights) -> Encoder:
    """The pivot of a ConvNeXt whose weights have the pivot's names.

    Raises:
        ConversionError: If names are missing or unknown.
    """
    stages = range(4)
    convs = [f'stages.{i}.0.depthwise_conv.weight' for i in stages]
    require(weights, [*convs, 'downsample_layers.0.0.weight', 'stages.0.0.pointwise_conv1.weight'])
    sizes = dict(
        depths=[count(weights, f'stages.{i}.*.depthwise_conv.weight') for i in stages],
        channels=[len(weights[conv]) for conv in convs],
    )
    kind = type(build_backbone(dict(type='mmpretrain.ConvNeXt', arch='atto')))
    cfg = dict(
        type='mmpretrain.ConvNeXt',
        arch=next((arch for arch, known in kind.arch_settings.items() if known == sizes), sizes),
        in_channels=weights['downsample_layers.0.0.weight'].shape[1],
        stem_patch_size=weights['downsample_layers.0.0.weight'].shape[2],
        linear_pw_conv=weights['stages.0.0.pointwise_conv1.weight'].ndim == 2,
        layer_scale_init_value=1.0 if 'stages.0.0.gamma' in weights else 0.0,
        out_indices=[3] if f'{_NORM}.weight' in weights else [],
    )
    check_against(build_backbone(cfg), weights)
    return Encoder(cfg, weights)


class MMConvNeXtNaming(Naming):
    """mmpretrain's ConvNeXt, the pivot's own."""

    name = 'mmpretrain ConvNeXt'
    family = 'ConvNeXt'
    signature = 'stages.*.*.depthwise_conv.weight'

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        del hints
        return convnext_encoder(weights)

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        return dict(encoder.weights), {}

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`."""
        network = build_backbone(cfg)
        network.load_state_dict(weights)

        def features(image: Tensor) -> Tensor:
            if cfg['out_indices']:
                return network(image)[-1]
            for downsample, stage in zip(network.downsample_layers, network.stages, strict=True):
                image = stage(downsample(image))
            return image

        return Peer(network, features)


class TimmConvNeXtNaming(TimmNaming):
    """timm's ``convnext_*``."""

    name = 'timm ConvNeXt'
    models = ('convnext_',)
    family = 'ConvNeXt'
    signature = 'stages.*.blocks.*.conv_dw.weight'
    unlike = 'stages.*.blocks.*.mlp.grn.weight'

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        del hints
        return convnext_encoder(rename(weights, swapped(TIMM_NAMES), self.name))

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        if not encoder.cfg['out_indices']:
            raise ConversionError("timm's convnext_* has a last norm, this encoder none")
        _check_gamma(encoder)
        return rename(encoder.weights, TIMM_NAMES, self.name), {}

    def model(self, cfg: dict, weights: Weights) -> tuple[str, dict]:
        """See :meth:`TimmNaming.model`."""
        del weights
        return timm_model(cfg)

    def as_peer(self, network: nn.Module, cfg: dict) -> nn.Module:
        """See :meth:`TimmNaming.as_peer`."""
        return _timm_peer(network, cfg)


class ConvNeXtNaming(Naming):
    """facebookresearch's ConvNeXt, compared through timm, which reads its weights by itself."""

    name = 'facebookresearch ConvNeXt'
    family = 'ConvNeXt'
    signature = 'stages.*.*.dwconv.weight'

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        del hints
        return convnext_encoder(rename(weights, swapped(NAMES), self.name))

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        _check_gamma(encoder)
        return rename(encoder.weights, NAMES, self.name), {}

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`."""
        name, arguments = timm_model(cfg)
        network = timm().create_model(name, num_classes=0, **arguments)
        translated = timm().models.convnext.checkpoint_filter_fn(weights, network)
        if not cfg['out_indices']:
            translated |= network.head.norm.state_dict(prefix='head.norm.')  # takes no part in the features
        network.load_state_dict(translated)
        return _timm_peer(network, cfg)


def timm_model(cfg: dict) -> tuple[str, dict]:
    """Name and arguments of timm's model from a pivot's config."""
    kind = type(build_backbone(dict(type='mmpretrain.ConvNeXt', arch='atto')))
    sizes = kind.arch_settings[cfg['arch']] if isinstance(cfg['arch'], str) else cfg['arch']
    return 'convnext_tiny', dict(
        depths=sizes['depths'],
        dims=sizes['channels'],
        in_chans=cfg['in_channels'],
        patch_size=cfg['stem_patch_size'],
        conv_mlp=not cfg['linear_pw_conv'],
    )


def _timm_peer(network: nn.Module, cfg: dict) -> nn.Module:
    def features(image: Tensor) -> Tensor:
        last = network.forward_features(image)
        return network.forward_head(last, pre_logits=True) if cfg['out_indices'] else last

    return Peer(network, features)


def _check_gamma(encoder: Encoder) -> None:
    if not encoder.cfg['layer_scale_init_value']:
        raise ConversionError(
            'a ConvNeXt without LayerScale (gamma) is in no convnext_* of timm or facebookresearch'
        )
