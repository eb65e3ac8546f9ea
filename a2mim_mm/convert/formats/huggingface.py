"""Names of Hugging Face's transformers: ViT, with or without MAE's decoder beside it, and ResNet."""

import re

import torch

from ..encoder import ConversionError
from ..naming import Naming, Weights, rename
from ..origin import Origin
from .timm_vit import VIT as TIMM_VIT
from .torchvision import RESNET as TORCHVISION

_VIT = [
    ('embeddings.cls_token', 'cls_token'),
    ('embeddings.position_embeddings', 'pos_embed'),
    ('embeddings.patch_embeddings.projection.*', 'patch_embed.proj.*'),
    ('encoder.layer.*.layernorm_before.*', 'blocks.*.norm1.*'),
    ('encoder.layer.*.attention.qkv.*', 'blocks.*.attn.qkv.*'),
    ('encoder.layer.*.attention.output.dense.*', 'blocks.*.attn.proj.*'),
    ('encoder.layer.*.layernorm_after.*', 'blocks.*.norm2.*'),
    ('encoder.layer.*.intermediate.dense.*', 'blocks.*.mlp.fc1.*'),
    ('encoder.layer.*.output.dense.*', 'blocks.*.mlp.fc2.*'),
    ('layernorm.*', 'norm.*'),
]
_QUERY = re.compile(r'(encoder\.layer\.\d+\.attention)\.attention\.query\.(weight|bias)')
_OTHERS = re.compile(r'encoder\.layer\.\d+\.attention\.attention\.(key|value)\.(weight|bias)')
_RESNET = (
    (re.compile(r'embedder\.embedder\.convolution\.'), 'conv1.'),
    (re.compile(r'embedder\.embedder\.normalization\.'), 'bn1.'),
    (re.compile(r'(.*)\.shortcut\.convolution\.'), r'\1.downsample.0.'),
    (re.compile(r'(.*)\.shortcut\.normalization\.'), r'\1.downsample.1.'),
)
_PLACE = re.compile(r'encoder\.stages\.(\d+)\.layers\.(\d+)\.')
_INNER = re.compile(r'layer\.(\d+)\.(convolution|normalization)\.')


def _timm_names(weights: Weights) -> Weights:
    """Weights under timm's names, with query, key and value in one tensor.

    Raises:
        ConversionError: If one of the three is missing, or a name is unknown.
    """
    fused = {}
    for name, tensor in weights.items():
        query = _QUERY.fullmatch(name)
        if query:
            try:
                parts = [weights[name.replace('.query.', f'.{part}.')] for part in ('key', 'value')]
            except KeyError as error:
                raise ConversionError(f'{name} exists, but {error.args[0]} does not') from error
            fused[f'{query[1]}.qkv.{query[2]}'] = torch.cat([tensor, *parts])
        elif not _OTHERS.fullmatch(name):
            fused[name] = tensor
    return rename(fused, _VIT, 'transformers ViT')


def _torchvision_names(weights: Weights) -> Weights:
    def plain(name: str) -> str:
        name = _PLACE.sub(lambda place: f'layer{int(place[1]) + 1}.{place[2]}.', name, count=1)
        for pattern, new in _RESNET:
            name = pattern.sub(new, name, count=1)
        kinds = dict(convolution='conv', normalization='bn')
        return _INNER.sub(lambda inner: f'{kinds[inner[2]]}{int(inner[1]) + 1}.', name, count=1)

    return {plain(name): tensor for name, tensor in weights.items()}


# The epsilon of LayerNorm is 1e-12 there, and 1e-6 in timm and here. Weights do not show it.
VIT = Naming(
    name='transformers ViT',
    family=TIMM_VIT.family,
    signature='encoder.layer.*.attention.attention.query.weight',
    encoder=TIMM_VIT.encoder,
    build=lambda cfg, weights: TIMM_VIT.peer(cfg, _timm_names(weights)),
    names=TIMM_VIT.names,
    prepare=lambda weights: (_timm_names(weights), {}),
)
RESNET = Naming(
    name='transformers ResNet',
    family=TORCHVISION.family,
    signature='embedder.embedder.convolution.weight',
    encoder=TORCHVISION.encoder,
    build=lambda cfg, weights: TORCHVISION.peer(cfg, _torchvision_names(weights)),
    prepare=lambda weights: (_torchvision_names(weights), {}),
)

ORIGINS = (
    Origin(
        110,
        'huggingface',
        'Hugging Face transformers, an encoder alone',
        (VIT, RESNET),
        outside=r'pooler\..*',
        mean_std=None,
    ),
    Origin(
        120,
        'huggingface-vit',
        'Hugging Face transformers: ViT or ViTMAE with a head or decoder',
        (VIT,),
        prefix='vit.',
        outside=r'(?!vit\.).*|vit\.pooler\..*',
        mean_std=None,
    ),
    Origin(
        130,
        'huggingface-resnet',
        'Hugging Face transformers: ResNet with a classifier',
        (RESNET,),
        prefix='resnet.',
        outside=r'(?!resnet\.).*',
        mean_std=None,
    ),
)
