"""A trained network that is to be analysed, and how it wants its images: of mmpretrain and its kin, or timm.

A network is named by a config and a checkpoint. Configs of classifiers see images as in their test pipeline;
others (pre-training, detection, segmentation), whole images scaled to cover the input size and cropped at the
centre. ``timm:NAME`` in place of a config is a network of timm, with timm's own test transform. ``random`` in
place of a checkpoint leaves the weights as they are initialised.
"""

import inspect
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

from a2mim_mm.convert.libraries import timm
from a2mim_mm.engine.checkpoint import load_checkpoint_file, load_strictly
from a2mim_mm.engine.cli import build_model, load_config, require
from a2mim_mm.engine.pretrained import BACKBONE, find_pretrained
from a2mim_mm.visualization import read_image, training_size

RANDOM = 'random'
_TIMM = 'timm:'
_DEFAULT_SIZE = (224, 224)


@dataclass(frozen=True)
class Source:
    """Where a network comes from.

    Attributes:
        name: What it is called in results. Networks of one name are runs of one kind, drawn as one curve.
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
    """A network that is to be analysed, in evaluation mode, on its device.

    Attributes:
        network: Normalised images (B, 3, H, W) to logits (B, classes), or to features.
        pipeline: Transforms from ``dict(img_path=...)`` to ``dict(inputs=...)``, a uint8 image (3, H, W).
        normalise: A batch of inputs (B, 3, H, W) to what the network takes, on its device.
        classes: Names of the classes that it was trained on, where the checkpoint tells.
    """

    network: nn.Module
    pipeline: list[dict | Callable]
    normalise: Callable[[Tensor], Tensor]
    classes: tuple[str, ...] | None

    def black(self) -> Tensor:
        """A black pixel as the network sees it, (3,)."""
        return self.normalise(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))[0, :, 0, 0]


def load_classifier(source: Source, seed: int) -> Subject:
    """A whole network, with its classifier.

    Args:
        source: Where it comes from.
        seed: Seed of random weights.

    Raises:
        ValueError: If the config or the checkpoint cannot be read, there is no classifier, or the checkpoint
            does not fill the network.
    """
    if source.config.startswith(_TIMM):
        return _from_timm(source, seed)
    cfg, model = _build(source, seed)
    if not isinstance(model, BaseClassifier):
        raise ValueError(f'config {source.config} builds a {type(model).__name__}, which is no classifier')
    content = _content(source)
    if content is not None:
        load_strictly(model, content.get('state_dict', content), source.checkpoint)
    return _subject(cfg, model, model, content)


def load_encoder(source: Source, seed: int) -> Subject:
    """A backbone, from a checkpoint that holds at least that: of a pre-training, a fine-tuning or converted.

    Args:
        source: Where it comes from.
        seed: Seed of random weights.

    Raises:
        ValueError: If the config or the checkpoint cannot be read, or does not fill the backbone.
    """
    if source.config.startswith(_TIMM):
        return _from_timm(source, seed)
    cfg, model = _build(source, seed)
    content = _content(source)
    if not hasattr(model, BACKBONE):  # mmpretrain's TimmClassifier: one network, head included
        if content is not None:
            load_strictly(model, content.get('state_dict', content), source.checkpoint)
        return _subject(cfg, model, model, content)
    if content is not None:
        find_pretrained(content, source.checkpoint).load_into(nn.ModuleDict({BACKBONE: model.backbone}))
    _see_whole_images(model.backbone)
    return _subject(cfg, model, model.backbone, content)


def _see_whole_images(backbone: nn.Module) -> None:
    """mmpretrain's backbones for masked image modeling hide patches unless their ``mask`` is None."""
    if 'mask' in inspect.signature(backbone.forward).parameters:
        backbone.register_forward_pre_hook(
            lambda _, args, kwargs: (args, {**kwargs, 'mask': None}), with_kwargs=True
        )


def _build(source: Source, seed: int) -> tuple[Config, nn.Module]:
    cfg = load_config(source.config)
    require(cfg, ('model',), 'analysed')
    torch.manual_seed(seed)
    model = build_model(cfg)
    if source.checkpoint == RANDOM:
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel('ERROR')  # a line a parameter
        model.init_weights()
        logger.setLevel(level)
    return cfg, model


def _content(source: Source) -> dict | None:
    return None if source.checkpoint == RANDOM else load_checkpoint_file(source.checkpoint)


def _subject(cfg: Config, model: nn.Module, network: nn.Module, content: dict | None) -> Subject:
    meta = (content or {}).get('meta') or {}
    classes = (meta.get('dataset_meta') or {}).get('classes')
    model.to(_device())
    model.eval()  # not network.eval(): that of mmpretrain's ViT returns None
    if isinstance(model, BaseClassifier) and cfg.get('test_dataloader') is not None:
        pipeline = _dataset(cfg.test_dataloader).pipeline
        normalise = partial(_preprocess, model.data_preprocessor)
    else:
        pipeline = [partial(_read_whole, size_hw=_training_size(cfg))]
        normalise = partial(_normalise, **_colours(cfg))
    return Subject(network, pipeline, normalise, None if classes is None else tuple(classes))


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


def _training_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the training crops; 224 where the config does not say."""
    if cfg.get('train_dataloader') is None:
        return _DEFAULT_SIZE
    return training_size(_dataset(cfg.train_dataloader).get('pipeline', [])) or _DEFAULT_SIZE


def _dataset(loader: dict) -> dict:
    """The data set of a loader, without wrappers such as ``RepeatDataset``."""
    dataset = loader.dataset
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset


def _from_timm(source: Source, seed: int) -> Subject:
    library, name = timm(), source.config.removeprefix(_TIMM)
    if not library.is_model(name):
        raise ValueError(f'timm has no model {name}: timm.list_models() names them')
    content = _content(source)
    torch.manual_seed(seed)
    if content is None:
        network = library.create_model(name)
    else:
        weights = content.get('state_dict', content)
        network = library.create_model(name, num_classes=_num_classes(library, name, weights))
        load_strictly(network, weights, source.checkpoint)
    data = library.data.resolve_model_data_config(network)
    transform = library.data.create_transform(**data, is_training=False, normalize=False)
    network.to(_device())
    network.eval()
    mean, std = ([255 * value for value in data[key]] for key in ('mean', 'std'))
    pipeline = [partial(_read_for_timm, transform=transform)]
    return Subject(network, pipeline, partial(_normalise, mean=mean, std=std), None)


def _num_classes(library: object, name: str, weights: dict[str, Tensor]) -> int:
    """Number of classes of a classifier's weights; 0, which is timm's word for none, where they have none."""
    classifier = library.get_pretrained_cfg(name).classifier
    classifier = classifier if isinstance(classifier, str) else classifier[0]
    weight = weights.get(f'{classifier}.weight')
    return 0 if weight is None else len(weight)


def _read_for_timm(info: dict, transform: Callable) -> dict:
    with Image.open(info['img_path']) as image:
        return dict(inputs=transform(image.convert('RGB')))


def _device() -> str:
    return 'cuda' if torch.cuda.is_available() else 'cpu'
