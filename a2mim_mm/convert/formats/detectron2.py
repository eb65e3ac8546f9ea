"""detectron2's ResNet, with the names and the strides (in the 3x3 convolution) of torchvision's weights.

Source of the names: detectron2, ``modeling/backbone/resnet.py``; MoCo, ``convert-pretrain-to-detectron2.py``.
"""

from torch import Tensor, nn

from ..families.resnet import FAMILY, resnet_encoder, torchvision_resnet
from ..naming import Naming, Peer, Weights, as_it_is
from ..origin import Origin

_STAGES = (2, 3, 4, 5)
_NORM = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def _names() -> list[tuple[str, str]]:
    pairs = [('conv1.weight', 'stem.conv1.weight')]
    pairs += [(f'bn1.{part}', f'stem.conv1.norm.{part}') for part in _NORM]
    for stage in _STAGES:
        ours, theirs = f'layer{stage - 1}.*', f'res{stage}.*'
        for i in (1, 2, 3):
            pairs += [(f'{ours}.conv{i}.weight', f'{theirs}.conv{i}.weight')]
            pairs += [(f'{ours}.bn{i}.{part}', f'{theirs}.conv{i}.norm.{part}') for part in _NORM]
        pairs += [(f'{ours}.downsample.0.weight', f'{theirs}.shortcut.weight')]
        pairs += [(f'{ours}.downsample.1.{part}', f'{theirs}.shortcut.norm.{part}') for part in _NORM]
    return pairs


class _Conv(nn.Module):
    """A convolution that holds its norm, as detectron2's ``Conv2d``."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.norm = norm
        self.stride, self.padding = conv.stride, conv.padding

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(nn.functional.conv2d(x, self.weight, None, self.stride, self.padding))


class _Block(nn.Module):
    """A residual block, basic or bottleneck."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.shortcut = None if block.downsample is None else _Conv(*block.downsample)
        for i in (1, 2, 3):
            if hasattr(block, f'conv{i}'):
                setattr(self, f'conv{i}', _Conv(getattr(block, f'conv{i}'), getattr(block, f'bn{i}')))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x).relu())
        if hasattr(self, 'conv3'):
            out = self.conv3(out.relu())
        return (out + (x if self.shortcut is None else self.shortcut(x))).relu()


class Detectron2ResNet(nn.Module):
    """A ResNet with the names of detectron2, which this package does not depend on."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        donor = torchvision_resnet(depth)
        self.stem = nn.ModuleDict(dict(conv1=_Conv(donor.conv1, donor.bn1)))
        for stage in _STAGES:
            blocks = getattr(donor, f'layer{stage - 1}')
            self.add_module(f'res{stage}', nn.Sequential(*(_Block(block) for block in blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(b, 2048, h, w), or 512 channels of basic blocks."""
        x = nn.functional.max_pool2d(self.stem['conv1'](x).relu(), 3, 2, 1)
        for stage in _STAGES:
            x = self.get_submodule(f'res{stage}')(x)
        return x


def _peer(cfg: dict, weights: Weights) -> Peer:
    network = Detectron2ResNet(cfg['depth'])
    network.load_state_dict(weights)
    return Peer(network, network)


RESNET = Naming(
    name='detectron2',
    family=FAMILY,
    signature='res2.*.conv1.weight',
    encoder=resnet_encoder,
    build=_peer,
    names=_names(),
    express=as_it_is,
)

ORIGINS = (Origin(280, 'detectron2', 'detectron2', (RESNET,), outside=r'(stem\.fc|linear)\..*'),)
