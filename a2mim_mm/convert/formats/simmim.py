"""microsoft's SimMIM, pre-trained and fine-tuned, and Swin (``models/swin_transformer.py``).

Swin of timm before 0.9 has the same names.
"""

from a2mim_mm.libraries import timm

from ..families import swin
from ..naming import Naming, Peer, Weights
from ..origin import CLASSIFIER, Origin
from .timm import SWIN as TIMM_SWIN
from .timm import SWIN_NAMES, swin_finish, swin_prepare
from .timm_beit import BEIT


def _peer(cfg: dict, weights: Weights) -> Peer:
    """timm's network, by timm's own translation of these names."""
    name, arguments = TIMM_SWIN.model(cfg, weights)
    network = timm().create_model(name, num_classes=0, **arguments)
    network.load_state_dict(timm().models.swin_transformer.checkpoint_filter_fn(weights, network))
    return TIMM_SWIN.as_peer(network, cfg)


SWIN = Naming(
    name='microsoft Swin',
    family=swin.FAMILY,
    signature='layers.0.downsample.reduction.weight',
    encoder=swin.swin_encoder,
    build=_peer,
    names=[*SWIN_NAMES, ('stages.*.downsample.*.*', 'layers.*.downsample.*.*')],
    prepare=swin_prepare,
    finish=swin_finish,
)

ORIGINS = (
    Origin(
        220,
        'simmim',
        'microsoft SimMIM',
        (BEIT, SWIN),
        prefix='encoder.',
        outside=r'decoder\..*|encoder\.mask_token',
        sign=r'decoder\..*',
    ),
    Origin(
        230, 'simmim-finetuned', 'microsoft SimMIM, fine-tuned, or Swin', (BEIT, SWIN), outside=CLASSIFIER
    ),
)
