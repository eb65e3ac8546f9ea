"""ResNet: torchvision, timm and OpenMMLab give its weights the same names."""

import re

import torch
import torchvision
from torch import Tensor, nn

from ..encoder import ConversionError, Encoder, build_backbone
from ..naming import Hints, Naming, Peer, Weights, check_against, count

BLOCKS = {  # depth: blocks of the four stages; 200 as in He et al., https://arxiv.org/abs/1603.05027
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
_OTHER_RESNETS = {  # names of which the plain ResNet has none
    r'conv1\.\d+\..*|stem\..*': 'a deep stem of three convolutions (ResNet-C, -D)',
    r'.*\.se\..*': 'squeeze and excitation (SE-ResNet)',
    r'.*downsample\.2\..*': 'an average-pooled shortcut (ResNet-D)',
}


class ResNetNaming(Naming):
    """Names of torchvision, kept by the pivot.

    Args:
        name: How the report calls it.
    """

    family = 'ResNet'
    signature = 'layer1.*.conv1.weight'
    unlike = 'patch_embed.projection.weight'

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        del hints
        for pattern, kind in _OTHER_RESNETS.items():
            if any(re.fullmatch(pattern, name) for name in weights):
                raise ConversionError(f'this ResNet has {kind}, which no transfer config here builds')
        cfg = dict(type=f'mmpretrain.{self.family}', depth=_depth(weights))
        if cfg['depth'] == 200:
            cfg['type'] = f'a2mim_mm.{self.family}'
        with torch.device('meta'):  # names and shapes alone
            check_against(torchvision_resnet(cfg['depth']), weights)
        return Encoder(cfg, weights)

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        return dict(encoder.weights), {}

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`."""
        network = torchvision_resnet(cfg['depth'])
        network.load_state_dict(weights)
        return Peer(network, lambda image: last_map(network, image))


class MMResNetNaming(ResNetNaming):
    """The same names, of mmpretrain's class."""

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`."""
        network = build_backbone(cfg)
        network.load_state_dict(weights)
        return Peer(network, lambda image: network(image)[-1])


def torchvision_resnet(depth: int) -> torchvision.models.ResNet:
    """A torchvision ResNet of any depth, with ``nn.Identity`` for the classifier."""
    resnet = torchvision.models.resnet
    block = resnet.BasicBlock if depth < 50 else resnet.Bottleneck
    network = resnet.ResNet(block, list(BLOCKS[depth]))
    network.fc = nn.Identity()
    return network


def last_map(network: nn.Module, image: Tensor) -> Tensor:
    """(b, c, h, w): what the last stage of a torchvision ResNet gives."""
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
        f'no ResNet has stages of {blocks} {"bottlenecks" if bottleneck else "basic blocks"}; '
        f'known depths: {", ".join(map(str, BLOCKS))}'
    )
