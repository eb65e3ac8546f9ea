"""torchvision's ResNet, whose names most self-supervised ResNets have."""

from ..families.resnet import FAMILY, resnet_encoder, torchvision_peer
from ..naming import Naming, as_it_is
from ..origin import Origin

RESNET = Naming(
    name='torchvision ResNet',
    family=FAMILY,
    signature='layer1.*.conv1.weight',
    unlike='patch_embed.projection.weight',
    encoder=resnet_encoder,
    build=torchvision_peer,
    express=as_it_is,
)

ORIGINS = (Origin(60, 'torchvision', 'torchvision', (RESNET,), outside=r'fc\.(weight|bias)'),)
