"""Networks that no format names: built by the config of their training, under their own library's names."""

from dataclasses import replace

from torch import nn

from a2mim_mm.backbones.dry_run import input_size
from a2mim_mm.backbones.sites import as_map
from a2mim_mm.backbones.timm_backbone import timm_backbone, timm_call
from a2mim_mm.checkpoints.backbone import BACKBONE, fill_backbone, find_pretrained
from a2mim_mm.checkpoints.errors import CheckpointError
from a2mim_mm.checkpoints.load import load_network
from a2mim_mm.checkpoints.saved_config import check_network, read_saved_config, registered_class

from .detect import Found, UnknownFormatError, detect
from .encoder import ConversionError, Encoder, Own
from .naming import Hints, Naming, Peer, TimmNaming, Weights, as_it_is, filled, last_output
from .origin import Origin
from .saved import read_saved

_MMPRETRAIN = 'mmpretrain.models.backbones.'
_ORIGIN = Origin(0, 'training', 'the network that the config of its training builds', ())
# What can be written under the names of a library.
TARGETS_OF = {
    'timm': ('timm', 'huggingface', 'onnx'),
    'mmpretrain': ('mmpretrain', 'mmdet', 'mmseg', 'onnx'),
}


def find(checkpoint: dict, source: str, to: str, hints: Hints | None) -> Found:
    """:func:`detect`, or if no format fits, the backbone that the config in the file builds.

    The network of a ``TimmBackbone`` keeps timm's names wherever the target takes these.

    Args:
        checkpoint: What the file holds.
        source: Where it comes from, for messages.
        to: Format that is to be written.
        hints: As for :func:`detect`.

    Raises:
        ConversionError: As :func:`detect`, if the file has no config of a network of timm or mmpretrain.
        CheckpointError: If the network cannot be built from the config, or the file does not fill it.
    """
    cfg = _saved_backbone(checkpoint, source)
    library = _library_of(cfg)
    if library == 'timm':
        own = _read_own(checkpoint, source, cfg, library)
        return own if to in TARGETS_OF[library] else _as_a_format_of_timm(own, source, hints)
    try:
        return detect(checkpoint, source, hints=hints)
    except UnknownFormatError:
        if library is None:
            raise
    return _read_own(checkpoint, source, cfg, library)


def _saved_backbone(checkpoint: dict, source: str) -> dict:
    try:
        cfg = read_saved_config(checkpoint, source)['model'].get(BACKBONE)
    except CheckpointError:
        return {}
    return cfg if isinstance(cfg, dict) else {}


def _library_of(cfg: dict) -> str | None:
    """The library whose network a config builds, ``'timm'`` or ``'mmpretrain'``; None for any other."""
    kind = registered_class(cfg.get('type'))
    if kind is timm_backbone:
        return 'timm'
    return 'mmpretrain' if getattr(kind, '__module__', '').startswith(_MMPRETRAIN) else None


def _read_own(checkpoint: dict, source: str, cfg: dict, library: str) -> Found:
    """The backbone of a training with all of its weights, by the names of its library."""
    check_network(cfg, source)
    network = load_network(cfg, checkpoint, source, fill=fill_backbone)
    weights, pretrained = network.state_dict(), find_pretrained(checkpoint, source)
    name = cfg['type'].rpartition('.')[2]
    if library == 'mmpretrain':
        cfg = {**cfg, 'type': f'mmpretrain.{name}'}
    channels = cfg.get('in_chans', cfg.get('in_channels', 3))
    own = Own(library, f'{library} {cfg.get("model_name", name)}', (channels, *input_size(network)))
    left = [key for key in pretrained.weights if key not in weights]
    saved = read_saved(checkpoint, source)
    return Found(
        origin=_ORIGIN,
        naming=replace(NETWORK, name=own.title),
        entry='state_dict',
        weights=weights,
        outside=(*left, *pretrained.outside),
        encoder=Encoder(cfg, weights, own=own),
        mean_std=saved.mean_std,
        input_hw=saved.input_hw or own.image_chw[1:],
    )


def _as_a_format_of_timm(own: Found, source: str, hints: Hints | None) -> Found:
    """A network of timm as the format that knows its names, proved by the network of the training.

    It is returned as it is if there is no such format.
    """
    try:
        found = detect(own.weights, source, 'timm', hints)
    except ConversionError:
        return own
    naming = replace(found.naming, model=lambda _cfg, _weights: timm_call(own.encoder.cfg))
    return replace(
        found,
        naming=naming,
        entry=own.entry,
        outside=own.outside,
        mean_std=own.mean_std,
        input_hw=own.input_hw,
    )


def _timm_peer(network: nn.Module, cfg: dict) -> Peer:
    """A network of timm, compared by the last map that the backbone of the training returns."""
    indices = cfg.get('out_indices')
    if indices is None:
        return Peer(network, lambda images: as_map(network.forward_features(images), images.shape))
    options = dict(indices=indices, intermediates_only=True, output_fmt='NCHW')
    return Peer(network, lambda images: network.forward_intermediates(images, **options)[-1])


def _built(cfg: dict, weights: Weights) -> Peer:
    return last_output(filled(cfg, weights))


_NAMES = dict(name='', family='', signature=(), encoder=Encoder, express=as_it_is)
NETWORK = Naming(**_NAMES, build=_built)
TIMM_NETWORK = TimmNaming(**_NAMES, model=lambda cfg, _weights: timm_call(cfg), as_peer=_timm_peer)
