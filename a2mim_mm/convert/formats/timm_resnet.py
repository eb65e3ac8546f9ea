"""timm's ResNet, of the same names as torchvision's."""

from torch import nn

from ..naming import Peer, TimmNaming, Weights
from .resnet import ResNetNaming


class TimmResNetNaming(TimmNaming, ResNetNaming):
    """timm's ``resnet18`` to ``resnet200``."""

    models = ('resnet',)

    def __init__(self) -> None:
        super().__init__('timm ResNet')

    def model(self, cfg: dict, weights: Weights) -> tuple[str, dict]:
        """See :meth:`TimmNaming.model`."""
        del weights
        return f'resnet{cfg["depth"]}', {}

    def as_peer(self, network: nn.Module, cfg: dict) -> nn.Module:
        """See :meth:`TimmNaming.as_peer`."""
        del cfg
        return Peer(network, network.forward_features)
