"""facebookresearch's ConvNeXt and ConvNeXt V2, which also SparK has.

Sources: facebookresearch/ConvNeXt and facebookresearch/ConvNeXt-V2, ``models/``.
"""

from torch import nn

from a2mim_mm.libraries import timm

from ..families.convnext import FAMILY, GRN, LAST, checked_patch, convnext_encoder
from ..naming import Naming, Peer, Weights
from ..origin import Origin
from .timm import CONVNEXT as TIMM_CONVNEXT

_NAMES = [
    ('downsample_layers.*.*.*', 'downsample_layers.*.*.*'),
    ('stages.*.*.depthwise_conv.*', 'stages.*.*.dwconv.*'),
    ('stages.*.*.norm.*', 'stages.*.*.norm.*'),
    ('stages.*.*.pointwise_conv1.*', 'stages.*.*.pwconv1.*'),
    ('stages.*.*.pointwise_conv2.*', 'stages.*.*.pwconv2.*'),
    ('stages.*.*.grn.*', 'stages.*.*.grn.*'),
    ('stages.*.*.gamma', 'stages.*.*.gamma'),
    (f'norm{LAST}.*', 'norm.*'),
]


def _prepare(weights: Weights) -> tuple[Weights, dict[str, str]]:
    """Global response normalisation has four axes there, and one here."""
    flat = {
        name: tensor.squeeze((0, 1, 2)) if GRN.fullmatch(name) and tensor.ndim == 4 else tensor
        for name, tensor in weights.items()
    }
    return flat, {}


def _peer(cfg: dict, weights: Weights) -> Peer:
    """timm's network, by timm's own translation of these names."""
    name, arguments = TIMM_CONVNEXT.model(cfg, weights)
    network = timm().create_model(name, num_classes=0, **arguments)
    if not cfg['out_indices']:
        network.head.norm = nn.Identity()
    network.load_state_dict(timm().models.convnext.checkpoint_filter_fn(weights, network))
    return TIMM_CONVNEXT.as_peer(network, cfg)


CONVNEXT = Naming(
    name='facebookresearch ConvNeXt',
    family=FAMILY,
    signature='stages.*.*.dwconv.weight',
    encoder=convnext_encoder,
    build=_peer,
    names=_NAMES,
    prepare=_prepare,
    finish=checked_patch,
)

ORIGINS = (Origin(250, 'convnext', 'facebookresearch ConvNeXt', (CONVNEXT,), outside=r'head\.(weight|bias)'),)
