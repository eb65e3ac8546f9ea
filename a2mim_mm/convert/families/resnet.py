"""ResNet. Its weights have the same names in torchvision, timm and OpenMMLab."""

import re

import torch
import torchvision
from torch import Tensor, nn

from ..encoder import ConversionError, Encoder
from ..naming import Hints, Peer, Weights, check_against, count

BLOCKS = {  # depth: blocks of the four stages; 200 as in He et al., https://arxiv.org/abs/1603.05027
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
FAMILY = 'ResNet'
_SCOPES = {200: 'a2mim_mm'}  # mmpretrain has no ResNet-200
_OTHER_RESNETS = {  # names that the plain ResNet does not have
    r'conv1\.\d+\..*|stem\..*': 'a deep stem of three convolutions (ResNet-C, -D)',
    r'.*\.se\..*': 'squeeze and excitation (SE-ResNet)',
    r'.*downsample\.2\..*': 'an average-pooled shortcut (ResNet-D)',
}


def resnet_encoder(weights: Weights, _hints: Hints, folded: dict[str, str]) -> Encoder:
    """The pivot of a ResNet whose weights have torchvision's names, which are the pivot's.

    Raises:
        ConversionError: If it is another kind of ResNet, or names or shapes differ.
    """
    for pattern, kind in _OTHER_RESNETS.items():
        if any(re.fullmatch(pattern, name) for name in weights):
            raise ConversionError(f'this ResNet has {kind}, which no transfer config here builds')
    depth = _depth(weights)
    with torch.device('meta'):  # names and shapes alone
        check_against(torchvision_resnet(depth), weights)
    return Encoder(dict(type=f'{_SCOPES.get(depth, "mmpretrain")}.{FAMILY}', depth=depth), weights, folded)


def torchvision_peer(cfg: dict, weights: Weights) -> Peer:
    """The network of torchvision, compared by the map of its last stage."""
    network = torchvision_resnet(cfg['depth'])
    network.load_state_dict(weights)
    return Peer(network, lambda image: last_map(network, image))


def torchvision_resnet(depth: int) -> torchvision.models.ResNet:
    """A torchvision ResNet of any depth, with ``nn.Identity`` for the classifier."""
    resnet = torchvision.models.resnet
    block = resnet.BasicBlock if depth < 50 else resnet.Bottleneck
    network = resnet.ResNet(block, list(BLOCKS[depth]))
    network.fc = nn.Identity()
    return network


def last_map(network: nn.Module, image: Tensor) -> Tensor:
    """The output of the last stage of a torchvision ResNet, (b, c, h, w)."""
    for name, module in network.named_children():
        if name == 'avgpool':
            break
        image = module(image)
    return image


def _depth(weights: Weights) -> int:
    blocks = tuple(count(weights, f'layer{stage}.*.conv1.weight') for stage in (1, 2, 3, 4))
    bottleneck = 'layer1.0.conv3.weight' in weights
    for depth, numbers in BLOCKS.items():
        if numbers == blocks and bottleneck == (depth >= 50):
            return depth
    raise ConversionError(
        f'no known ResNet has stages of {blocks} {"bottlenecks" if bottleneck else "basic blocks"}; '
        f'known depths: {", ".join(map(str, BLOCKS))}'
    )
