"""Names of mmpretrain's VisionTransformer and of A2MIMViT: the pivot's own."""

from torch import nn

from ..encoder import Encoder, build_backbone
from ..naming import Hints, Naming, Peer, Weights
from ..vit import vit_encoder

_OF_A2MIM = ('rel_pos_bias', 'abs_pos_embed')


class MMViTNaming(Naming):
    """mmpretrain's VisionTransformer; with position bias or without position embedding, A2MIMViT."""

    name = 'mmpretrain ViT'
    family = 'A2MIMViT'
    signature = 'layers.*.ffn.layers.0.0.weight'
    unlike = 'layers.*.attn.q_bias'

    def read(self, weights: Weights, hints: Hints) -> Encoder:
        """See :meth:`Naming.read`."""
        return vit_encoder(weights, hints)

    def write(self, encoder: Encoder) -> tuple[Weights, dict[str, str]]:
        """See :meth:`Naming.write`."""
        return dict(encoder.weights), {}

    def peer(self, cfg: dict, weights: Weights) -> nn.Module:
        """See :meth:`Naming.peer`."""
        if cfg['rel_pos_bias'] is None and cfg['abs_pos_embed']:
            cfg = {key: value for key, value in cfg.items() if key not in _OF_A2MIM}
            cfg['type'] = 'mmpretrain.VisionTransformer'
        network = build_backbone(cfg)
        network.load_state_dict(weights)
        return Peer(network, lambda image: network(image)[-1])
