"""Writes weights as safetensors, which cannot carry code."""

from torch import Tensor


def safetensors_bytes(weights: dict[str, Tensor], cfg: str | None = None) -> bytes:
    """A state dict in the form of a ``.safetensors`` file.

    Args:
        weights: Names and tensors, on any device. Two names may share a tensor.
        cfg: The text of a config, from which ``load_backbone`` builds the network.
    """
    from safetensors.torch import save

    weights = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
    return save(weights, metadata={'format': 'pt'} if cfg is None else {'format': 'pt', 'cfg': cfg})
