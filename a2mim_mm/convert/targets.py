"""The kinds of files that can be written, one class each.

Reading a file back gives the network of the target's own library, for the proof of the conversion.
"""

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from a2mim_mm.checkpoints.read import load_checkpoint_file, read_array_pickle
from a2mim_mm.checkpoints.write import safetensors_bytes
from a2mim_mm.libraries import LibraryMissing, onnxruntime_session, timm

from .encoder import ConversionError, Encoder, Own
from .formats import detectron2, openmmlab, torchvision
from .formats import timm as timm_format
from .naming import Naming, Peer, TimmNaming, Weights, check_against
from .onnx_export import export
from .origin import IMAGENET
from .trained import NETWORK, TARGETS_OF, TIMM_NETWORK
from .verify import ONNX_TOLERANCE, TOLERANCE

OPENMMLAB = tuple(openmmlab.WRITTEN.values())
TIMM = timm_format.NAMINGS
WEIGHT_SUFFIXES = ('.safetensors', '.pth')


@dataclass(frozen=True)
class Expression:
    """An encoder under the names of a target.

    Args:
        naming: The names.
        cfg: The pivot's config.
        weights: Tensors under these names.
        dropped: Names that were left out, and why.
        mean_std: Normalisation of images, RGB in 0..1; None if it is not known.
        timm_model: Name of the timm model to write for; None for the one that the naming chooses.
        input_hw: Size of the images it was trained on; None if it is not known.
        source: Where it comes from, in words.
        rest: All else in the source's state dict, under its names.
        own: For a network that no format names.
    """

    naming: Naming
    cfg: dict
    weights: Weights
    dropped: dict[str, str] = field(default_factory=dict)
    mean_std: tuple | None = None
    timm_model: str | None = None
    input_hw: tuple[int, int] | None = None
    source: str = ''
    rest: Weights = field(default_factory=dict)
    own: Own | None = None


class Target:
    """A kind of file: how an encoder is expressed, written to it, and read back from it.

    Attributes:
        title: Its name in messages.
        namings: Ways to name the weights. The first that can hold the encoder is used.
        own_names: Of networks that no format names.
        suffixes: Allowed endings of the file's name; empty for a folder.
        tolerance: Largest relative difference to the source.
        dtype: Type of the numbers in the comparison.
    """

    title: str
    namings: tuple[Naming, ...]
    own_names: Naming = NETWORK
    suffixes: tuple[str, ...] = WEIGHT_SUFFIXES
    tolerance: float = TOLERANCE
    dtype: torch.dtype = torch.float64

    def express(self, encoder: Encoder, mean_std: tuple | None, timm_model: str | None) -> Expression:
        """The encoder under the names of the target.

        Raises:
            ConversionError: If the target cannot hold it.
        """
        if encoder.own:
            return self._express_own(encoder, encoder.own, mean_std, timm_model)
        errors = []
        for naming in self.namings_for(encoder, timm_model):
            if naming.family != encoder.family:
                errors.append(
                    f'{self.title} names the weights of a {naming.family} here, not of a {encoder.family}'
                )
                continue
            try:
                weights, dropped = naming.write(encoder)
            except (ConversionError, LibraryMissing) as error:
                errors.append(str(error))
            else:
                return Expression(naming, encoder.cfg, weights, dropped, mean_std, timm_model)
        raise ConversionError(f'{self.title} cannot hold this encoder: {"; ".join(dict.fromkeys(errors))}')

    def _express_own(
        self, encoder: Encoder, own: Own, mean_std: tuple | None, timm_model: str | None
    ) -> Expression:
        targets = TARGETS_OF[own.library]
        if self.title not in targets:
            raise ConversionError(
                f'{self.title} cannot hold {own.title}, which can be written to {", ".join(targets)}'
            )
        if timm_model is not None:
            raise ConversionError(f'--timm-model: leave it out, this is {own.title}')
        naming = replace(self.own_names, name=own.title)
        return Expression(naming, encoder.cfg, encoder.weights, mean_std=mean_std, own=own)

    def namings_for(self, _encoder: Encoder, _timm_model: str | None) -> Sequence[Naming]:
        """The namings to try for an encoder, or for a model of timm that the user named."""
        return self.namings

    def write(self, expression: Expression, path: Path) -> None:
        """Write the file, not atomically."""
        write_weights(expression.weights, path)

    def read_back(self, expression: Expression, path: Path) -> nn.Module:
        """The target's network with the weights of the file, as a :class:`Peer`."""
        return expression.naming.peer(expression.cfg, load_checkpoint_file(path))

    def beside(self, _path: Path) -> tuple[Path, ...]:
        """Further files that :meth:`write` makes for this path."""
        return ()


class OpenMMLab(Target):
    """A backbone for the configs of this package, with or without ``backbone.`` in front of its names."""

    namings = OPENMMLAB

    def __init__(self, title: str, prefix: str = '') -> None:
        self.title = title
        self.prefix = prefix

    def write(self, expression: Expression, path: Path) -> None:
        weights = {self.prefix + name: tensor for name, tensor in expression.weights.items()}
        write_weights(weights, path, _config_text(expression))

    def read_back(self, expression: Expression, path: Path) -> nn.Module:
        weights = load_checkpoint_file(path)['state_dict']
        weights = {name.removeprefix(self.prefix): tensor for name, tensor in weights.items()}
        return expression.naming.peer(expression.cfg, weights)


class Torchvision(Target):
    """A state dict of torchvision's ResNet, without its classifier."""

    title = 'torchvision'
    namings = (torchvision.RESNET,)


class Detectron2(Target):
    """A pickle of numpy arrays, with the keys that MoCo's converter writes."""

    title = 'detectron2'
    namings = (detectron2.RESNET,)
    suffixes = ('.pkl',)

    def write(self, expression: Expression, path: Path) -> None:
        model = {name: _array(tensor.detach()) for name, tensor in expression.weights.items()}
        content = {'model': model, '__author__': 'a2mim_mm', 'matching_heuristics': True}
        with path.open('wb') as file:
            pickle.dump(content, file, protocol=4)

    def read_back(self, expression: Expression, path: Path) -> nn.Module:
        model = {
            name: torch.from_numpy(array.copy()) for name, array in read_array_pickle(path)['model'].items()
        }
        return expression.naming.peer(expression.cfg, model)


class Timm(Target):
    """A state dict for ``timm.create_model``, and a second file with the model's name and arguments."""

    title = 'timm'
    own_names = TIMM_NETWORK

    def namings_for(self, encoder: Encoder, timm_model: str | None) -> Sequence[Naming]:
        return _timm_namings(encoder, timm_model)

    def write(self, expression: Expression, path: Path) -> None:
        write_weights(expression.weights, path)
        (config,) = self.beside(path)
        model = _timm_model(expression)
        timm().models._hub.save_config_for_hf(model, config)
        _tell_the_truth(config, expression)

    def read_back(self, expression: Expression, path: Path) -> nn.Module:
        (config,) = self.beside(path)
        saved = json.loads(config.read_text())
        model = timm().create_model(saved['architecture'], **{**saved['model_args'], 'num_classes': 0})
        model.load_state_dict(load_checkpoint_file(path))
        return expression.naming.as_peer(model, expression.cfg)

    def beside(self, path: Path) -> tuple[Path, ...]:
        """The config, ``NAME.config.json``."""
        return (path.with_name(f'{path.name}.config.json'),)


class HuggingFace(Target):
    """A folder that ``timm.create_model('local-dir:FOLDER')`` loads: weights, config and model card."""

    title = 'huggingface'
    own_names = TIMM_NETWORK
    suffixes = ()

    def namings_for(self, encoder: Encoder, timm_model: str | None) -> Sequence[Naming]:
        return _timm_namings(encoder, timm_model)

    def write(self, expression: Expression, path: Path) -> None:
        hub = timm().models._hub
        model = _timm_model(expression)
        model.load_state_dict(expression.weights)
        dtypes = {tensor.dtype for tensor in expression.weights.values() if tensor.is_floating_point()}
        model.to(dtypes.pop() if len(dtypes) == 1 else torch.float32)
        hub.save_for_hf(model, path, safe_serialization=True)
        _tell_the_truth(path / 'config.json', expression)
        card = hub.generate_readme(
            _model_card(expression), path.name.removeprefix(DRAFT), 'image-feature-extraction'
        )
        (path / 'README.md').write_text(card)

    def read_back(self, expression: Expression, path: Path) -> nn.Module:
        model = timm().create_model(f'local-dir:{path}', pretrained=True)
        return expression.naming.as_peer(model, expression.cfg)


class Onnx(Target):
    """An ONNX graph from ``images`` (batch, channels, H, W) to ``features`` of the encoder.

    It takes any batch size. The graph of a CNN also takes any H and W.
    """

    title = 'onnx'
    namings = OPENMMLAB
    suffixes = ('.onnx',)
    tolerance = ONNX_TOLERANCE
    dtype = torch.float32

    def namings_for(self, encoder: Encoder, timm_model: str | None) -> Sequence[Naming]:
        if encoder.family == 'ConvNeXt' and not encoder.cfg['out_indices']:
            raise ConversionError('a ConvNeXt without a last norm has no output in mmpretrain')
        if encoder.family == 'SwinTransformer':
            raise ConversionError("the graph of mmpretrain's Swin would take a single batch size only")
        return super().namings_for(encoder, timm_model)

    def write(self, expression: Expression, path: Path) -> None:
        export(Encoder(expression.cfg, expression.weights, own=expression.own), path)

    def read_back(self, _expression: Expression, path: Path) -> nn.Module:
        session = onnxruntime_session(path)

        def features(images: Tensor) -> Tensor:
            # One by one: the graph was exported with two images, and has to take any number.
            outputs = [session.run(None, {'images': image[None].numpy()})[0] for image in images]
            return torch.cat([*map(torch.from_numpy, outputs)])

        return Peer(nn.Identity(), features)


DRAFT = '.part-'  # begins the name of a file until it is whole


def _array(tensor: Tensor) -> np.ndarray:
    """A tensor as numpy, which does not know bfloat16."""
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()


def write_weights(weights: Weights, path: Path, cfg: str | None = None) -> None:
    """Write a state dict as ``.safetensors`` or ``.pth``, with the text of a config if one is given."""
    if path.suffix == '.safetensors':
        path.write_bytes(safetensors_bytes(weights, cfg))
        return
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
    torch.save(weights if cfg is None else dict(state_dict=weights, meta=dict(cfg=cfg)), path)


def _config_text(expression: Expression) -> str:
    """The config of an encoder, as text, in the form of OpenMMLab's checkpoints."""
    model = dict(backbone=expression.cfg)
    if expression.mean_std is not None:
        mean, std = ([255 * value for value in values] for values in expression.mean_std)
        model['data_preprocessor'] = dict(mean=mean, std=std, to_rgb=True)
    return f'model = {model!r}'


def _timm_namings(encoder: Encoder, timm_model: str | None) -> list[Naming]:
    """The naming of the model that the user named, or all of the encoder's family.

    Raises:
        ConversionError: If timm has no such model, or this package does not know its names.
    """
    if timm_model is None:
        return [naming for naming in TIMM if naming.family == encoder.family]
    asked = [naming for naming in TIMM if timm_model.startswith(naming.models)]
    if not asked or not timm().is_model(timm_model):
        known = ', '.join(f'{start}*' for naming in TIMM for start in naming.models)
        raise ConversionError(f'--timm-model: {timm_model} is not a model of timm, or not one of {known}')
    return [max(asked, key=lambda naming: len(naming.models[0]))]  # vit_relpos_ begins with vit_, too


def _timm_model(expression: Expression) -> nn.Module:
    """A model of timm with random weights, whose names and shapes are those of the expression."""
    naming: TimmNaming = expression.naming
    name, arguments = naming.model(expression.cfg, expression.weights)
    name = expression.timm_model or name
    model = timm().create_model(name, num_classes=0, **arguments)
    try:
        check_against(model, expression.weights)
    except ConversionError as error:
        raise ConversionError(f"timm's {name} cannot hold this encoder: {error}") from error
    return model


def _tell_the_truth(config: Path, expression: Expression) -> None:
    """Replace what timm writes about its own weights of this architecture: tag, licence, origin, paper."""
    saved = json.loads(config.read_text())
    mean, std = expression.mean_std or IMAGENET
    size = expression.input_hw or expression.cfg.get('img_size', 224)
    size_hw = [size, size] if isinstance(size, int) else list(size)
    channels = expression.own.image_chw[0] if expression.own else expression.cfg.get('in_channels', 3)
    saved['pretrained_cfg'] = dict(
        input_size=[channels, *size_hw],
        fixed_input_size=saved['pretrained_cfg'].get('fixed_input_size', False),
        mean=list(mean),
        std=list(std),
        num_classes=0,
        pool_size=None,
        first_conv=saved['pretrained_cfg'].get('first_conv'),
        classifier=saved['pretrained_cfg'].get('classifier'),
        description=expression.source,
    )
    config.write_text(json.dumps(saved, indent=2) + '\n')


def _model_card(expression: Expression) -> dict:
    mean, std = expression.mean_std or IMAGENET
    note = '' if expression.mean_std else ' (assumed: the source does not tell)'
    return dict(
        tags=['image-feature-extraction', 'timm'],
        license='other',
        license_name='license-of-the-source',
        description=f'{expression.source}. Its licence is that of its source.',
        details={
            'Encoder': expression.naming.name,
            'Image mean / std': f'{tuple(mean)} / {tuple(std)}{note}',
            'Classifier': 'none',
        },
        usage=(
            "```python\nimport timm\n\nmodel = timm.create_model('local-dir:FOLDER', pretrained=True)\n"
            'features = model.forward_features(images)\n```\n'
        ),
    )
