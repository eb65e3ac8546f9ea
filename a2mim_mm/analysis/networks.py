"""A trained network to analyse, and how it takes its images; from mmpretrain, its kin, or timm.

A config and a checkpoint name a network. ``timm:NAME`` in place of a config is a network of timm. ``random``
in place of a checkpoint keeps the initial weights. A classifier sees images as its test pipeline or timm's
transform gives them. An encoder sees whole images, scaled to cover its input size and cropped at the centre,
so all encoders see the same.
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmpretrain.models import BaseClassifier
from PIL import Image
from torch import Tensor, nn

from a2mim_mm.checkpoints.backbone import BACKBONE, fill_backbone
from a2mim_mm.checkpoints.load import build_network, fill_all, load_network, load_strictly
from a2mim_mm.checkpoints.read import load_checkpoint_file
from a2mim_mm.checkpoints.saved_config import training_size
from a2mim_mm.convert.entries import state_dicts
from a2mim_mm.data import decode_image
from a2mim_mm.data.reading import read_image
from a2mim_mm.engine.config import load_config, model_config, require
from a2mim_mm.errors import InputError
from a2mim_mm.libraries import timm

RANDOM = 'random'
_TIMM = 'timm:'
_DEFAULT_SIZE = (224, 224)


@dataclass(frozen=True)
class Source:
    """Where a network comes from.

    Attributes:
        name: Its name in results. Networks with the same name are runs of one kind, drawn as one curve.
        config: Path of a config, or ``timm:NAME``.
        checkpoint: Path of a checkpoint, or ``random``.
    """

    name: str
    config: str
    checkpoint: str

    def text(self) -> str:
        """What the network is built from, as text.

        Raises:
            ValueError: If the config cannot be read.
        """
        if self.config.startswith(_TIMM):
            return self.config
        return load_config(self.config).pretty_text


@dataclass(frozen=True)
class Subject:
    """A network to analyse, in evaluation mode, on its device.

    Attributes:
        network: Normalised images (B, 3, H, W) to logits (B, classes), or to features.
        pipeline: Transforms from ``dict(img_path=...)`` to ``dict(inputs=...)``, a uint8 image (3, H, W).
        normalise: A batch of inputs (B, 3, H, W) to what the network takes, on its device.
        classes: Names of the classes it was trained on; None where the checkpoint does not name them.
    """

    network: nn.Module
    pipeline: list[dict | Callable]
    normalise: Callable[[Tensor], Tensor]
    classes: tuple[str, ...] | None

    def black(self) -> Tensor:
        """A black pixel as the network sees it, (3,)."""
        return self.normalise(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))[0, :, 0, 0]


def load_classifier(source: Source, seed: int, num_classes: int) -> Subject:
    """Build and fill a whole network, with its classifier.

    Args:
        source: Where it comes from.
        seed: Seed of random weights.
        num_classes: Number of classes of a random network of timm. Other networks know theirs.

    Raises:
        ValueError: If the config or the checkpoint cannot be read, there is no classifier, or the checkpoint
            does not fill the network.
    """
    content = _content(source)
    if source.config.startswith(_TIMM):
        network, data = _timm_network(source, content, seed, num_classes)
        transform = timm().data.create_transform(**data, is_training=False, normalize=False)
        pipeline = [partial(_read_for_timm, transform=transform)]
        return Subject(network, pipeline, _timm_normalise(data), None)
    cfg = _config(source, ('model', 'test_dataloader'))
    model = _network(model_config(cfg), content, source, seed, _fill_classifier)
    classes = (((content or {}).get('meta') or {}).get('dataset_meta') or {}).get('classes')
    return Subject(
        model,
        _dataset(cfg.test_dataloader).pipeline,
        partial(_preprocess, model.data_preprocessor),
        None if classes is None else tuple(classes),
    )


def load_encoder(source: Source, seed: int) -> Subject:
    """Build and fill a backbone, from any checkpoint that holds one: pre-trained, fine-tuned or converted.

    Args:
        source: Where it comes from.
        seed: Seed of random weights.

    Raises:
        ValueError: If the config or the checkpoint cannot be read, or does not fill the backbone.
    """
    content = _content(source)
    if source.config.startswith(_TIMM):
        network, data = _timm_network(source, content, seed, num_classes=0)
        pipeline = [partial(_read_whole, size_hw=data['input_size'][1:])]
        return Subject(network, pipeline, _timm_normalise(data), None)
    cfg = _config(source, ('model',))
    whole = model_config(cfg)
    if BACKBONE in whole:
        backbone = {'_scope_': whole['_scope_'], **whole[BACKBONE]}
        network = _network(backbone, content, source, seed, fill_backbone)
        _see_whole_images(network)
    else:  # mmpretrain's TimmClassifier: one network, head included
        network = _network(whole, content, source, seed, fill_all)
    pipeline = [partial(_read_whole, size_hw=_input_size(cfg))]
    return Subject(network, pipeline, partial(_normalise, **_colours(cfg)), None)


def _config(source: Source, needed: tuple[str, ...]) -> Config:
    cfg = load_config(source.config)
    require(cfg, needed, 'analysed')
    return cfg


def _network(
    cfg: dict, content: dict | None, source: Source, seed: int, fill: Callable[[nn.Module, dict, str], None]
) -> nn.Module:
    """The network of a config on its device, filled from a checkpoint or with random weights."""
    torch.manual_seed(seed)
    if content is None:
        network = build_network(_without_pretrained(cfg))
        fill_randomly(network)
        if fill is _fill_classifier:
            _check_classifier(network)
        network.eval()
    else:
        network = load_network(cfg, content, source.checkpoint, fill)
    return network.to(_device())


def fill_randomly(network: nn.Module) -> None:
    """Initialise a network, without the line that mmengine logs for each parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')
    network.init_weights()
    logger.setLevel(level)


def _fill_classifier(network: nn.Module, checkpoint: dict, source: str) -> None:
    _check_classifier(network)
    fill_all(network, checkpoint, source)


def _check_classifier(network: nn.Module) -> None:
    if not isinstance(network, BaseClassifier):
        raise InputError(
            f'the config builds {type(network).__name__}, which is not a classifier: fine-tune it, and '
            'analyse that config and checkpoint'
        )


def _see_whole_images(backbone: nn.Module) -> None:
    """Mmpretrain's backbones for masked image modeling hide patches unless their ``mask`` is None."""
    if 'mask' in inspect.signature(backbone.forward).parameters:
        backbone.register_forward_pre_hook(
            lambda _, args, kwargs: (args, {**kwargs, 'mask': None}), with_kwargs=True
        )


def _without_pretrained(part: object) -> object:
    """The config without the checkpoints that its parts would start from."""
    if isinstance(part, (list, tuple)):
        return [_without_pretrained(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        key: _without_pretrained(value)
        for key, value in part.items()
        if not (key == 'init_cfg' and isinstance(value, dict) and value.get('type') == 'Pretrained')
    }


def _content(source: Source) -> dict | None:
    return None if source.checkpoint == RANDOM else load_checkpoint_file(source.checkpoint)


def _preprocess(preprocessor: nn.Module, batch: Tensor) -> Tensor:
    return preprocessor(dict(inputs=batch), training=False)['inputs']


def _read_whole(info: dict, size_hw: tuple[int, int]) -> dict:
    return dict(inputs=(read_image(Path(info['img_path']), size_hw) * 255).round().byte())


def _normalise(batch_rgb: Tensor, mean: Sequence[float], std: Sequence[float], rgb: bool = True) -> Tensor:
    """RGB images (B, 3, H, W) in 0..255 as a network wants them; ``mean``, ``std`` in its channel order."""
    batch = (batch_rgb if rgb else batch_rgb.flip(1)).to(_device()).float()
    mean, std = (batch.new_tensor(values)[:, None, None] for values in (mean, std))
    return (batch - mean) / std


def _colours(cfg: Config) -> dict:
    """Mean, std (0..255) and channel order of a config's pre-processor."""
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    return dict(
        mean=preprocessor.get('mean') or (0, 0, 0),
        std=preprocessor.get('std') or (1, 1, 1),
        rgb=bool(preprocessor.get('to_rgb') or preprocessor.get('bgr_to_rgb')),
    )


def _input_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the training crops, or else of the test crops, or else 224."""
    train, test = (
        _dataset(cfg[loader]).get('pipeline', []) if cfg.get(loader) else []
        for loader in ('train_dataloader', 'test_dataloader')
    )
    size_hw = training_size(train)
    if size_hw is None:
        crops = [step['crop_size'] for step in test if step['type'].endswith('CenterCrop')]
        size_hw = crops[0] if crops else _DEFAULT_SIZE
    return (size_hw, size_hw) if isinstance(size_hw, int) else tuple(size_hw)


def _dataset(loader: dict) -> dict:
    """The data set of a loader, without wrappers such as ``RepeatDataset``."""
    dataset = loader.dataset
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset


def _timm_network(
    source: Source, content: dict | None, seed: int, num_classes: int
) -> tuple[nn.Module, dict]:
    """A network of timm, and its data config; ``num_classes`` is used for random weights."""
    library, name = timm(), source.config.removeprefix(_TIMM)
    known = library.get_pretrained_cfg(name) if library.is_model(name) else None
    if known is None:
        raise InputError(f'timm has no model {name}: timm.list_models() names them')
    torch.manual_seed(seed)
    if content is None:
        network = library.create_model(name, num_classes=num_classes)
    else:
        weights = _for_timm(content, library.create_model(name, num_classes=0), source.checkpoint)
        network = library.create_model(name, num_classes=_num_classes(known.classifier, weights))
        load_strictly(network, weights, source.checkpoint)
    network.to(_device()).eval()
    return network, library.data.resolve_model_data_config(network)


def _for_timm(content: dict, network: nn.Module, checkpoint: str) -> dict[str, Tensor]:
    """The weights of a file under timm's names, classifier included, by timm's own translation."""
    entries = state_dicts(content, checkpoint)
    usual = [name for name in ('state_dict', 'model', '') if name in entries]
    if not usual and len(entries) > 1:
        raise InputError(f'{checkpoint} holds several state dicts, {", ".join(entries)}: keep one of them')
    weights = entries[usual[0] if usual else next(iter(entries))]
    translate = getattr(sys.modules[type(network).__module__], 'checkpoint_filter_fn', None)
    return weights if translate is None else translate(weights, network)


def _num_classes(classifier: str | Sequence[str] | None, weights: dict[str, Tensor]) -> int:
    """Number of classes of a classifier's weights; 0 (no classifier, for timm) where they have none."""
    first = classifier if isinstance(classifier, str) or not classifier else classifier[0]
    weight = weights.get(f'{first}.weight')
    return 0 if weight is None else len(weight)


def _timm_normalise(data: dict) -> Callable[[Tensor], Tensor]:
    mean, std = ([255 * value for value in data[key]] for key in ('mean', 'std'))
    return partial(_normalise, mean=mean, std=std)


def _read_for_timm(info: dict, transform: Callable) -> dict:
    image_bgr = decode_image(Path(info['img_path']).read_bytes())
    return dict(inputs=transform(Image.fromarray(image_bgr[..., ::-1])))


def _device() -> str:
    return 'cuda' if torch.cuda.is_available() else 'cpu'
