"""The table of what can be written: how an encoder is expressed, put into a file, and read back from it.

One row a target. Reading back gives the network of the target's own library, for the proof of the conversion.
"""

import json
import pickle
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from a2mim_mm.checkpoints.read import load_checkpoint_file, read_array_pickle

from .encoder import ConversionError, Encoder
from .formats import detectron2, openmmlab, torchvision
from .formats import timm as timm_format
from .libraries import onnxruntime_session, timm
from .naming import Naming, Peer, TimmNaming, Weights, check_against
from .onnx_export import export
from .origin import IMAGENET
from .verify import ONNX_TOLERANCE, TOLERANCE

TIMM = timm_format.NAMINGS
WEIGHT_SUFFIXES = ('.safetensors', '.pth')


@dataclass(frozen=True)
class Expression:
    """An encoder by the names of a target.

    Args:
        naming: The names.
        cfg: The pivot's config.
        weights: Tensors by these names.
        dropped: What was left out, and why.
        mean_std: Normalisation of images, RGB in 0..1; None: not known.
        timm_model: Name of the timm model that is to hold it; None: the naming's own.
        input_hw: Size of the images it was trained on; None: not known.
        source: Where it comes from, in words.
        rest: What else the source's state dict holds, by its names.
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


class Target(ABC):
    """A kind of file.

    Attributes:
        title: For messages.
        suffixes: What the file's name may end with; empty: a folder.
        tolerance: Largest relative difference to the source.
        dtype: Of the comparison.
    """

    title: str
    suffixes: tuple[str, ...] = WEIGHT_SUFFIXES
    tolerance: float = TOLERANCE
    dtype: torch.dtype = torch.float64

    @abstractmethod
    def express(self, encoder: Encoder, mean_std: tuple | None, timm_model: str | None) -> Expression:
        """The encoder by the names of the target.

        Raises:
            ConversionError: If the target cannot hold it.
        """

    def write(self, expression: Expression, path: Path) -> None:
        """Write the file, not atomically."""
        write_weights(expression.weights, path)

    def read_back(self, expression: Expression, path: Path) -> nn.Module:
        """The target's network with the weights of the file, as a :class:`Peer`."""
        return expression.naming.peer(expression.cfg, load_checkpoint_file(path))

    def beside(self, path: Path) -> tuple[Path, ...]:
        """Further files that :meth:`write` makes."""
        return ()


class OpenMMLab(Target):
    """A backbone for the configs of this package, with or without ``backbone.`` in front of its names."""

    def __init__(self, title: str, prefix: str = '') -> None:
        self.title = title
        self.prefix = prefix

    def express(self, encoder: Encoder, mean_std: tuple | None, timm_model: str | None) -> Expression:
        """See :meth:`Target.express`."""
        return _express(encoder, mean_std, [openmmlab.WRITTEN[encoder.family]], self.title)

    def write(self, expression: Expression, path: Path) -> None:
        """See :meth:`Target.write`."""
        weights = {self.prefix + name: tensor for name, tensor in expression.weights.items()}
        write_weights(weights, path, _config_text(expression))

    def read_back(self, expression: Expression, path: Path) -> nn.Module:
        """See :meth:`Target.read_back`."""
        weights = load_checkpoint_file(path)['state_dict']
        weights = {name.removeprefix(self.prefix): tensor for name, tensor in weights.items()}
        return expression.naming.peer(expression.cfg, weights)


class Torchvision(Target):
    """torchvision's ResNet without its classifier."""

    title = 'torchvision'

    def express(self, encoder: Encoder, mean_std: tuple | None, timm_model: str | None) -> Expression:
        """See :meth:`Target.express`."""
        return _express(encoder, mean_std, [torchvision.RESNET], self.title)


class Detectron2(Target):
    """A pickle of numpy arrays, with the keys that MoCo's converter writes."""

    title = 'detectron2'
    suffixes = ('.pkl',)

    def express(self, encoder: Encoder, mean_std: tuple | None, timm_model: str | None) -> Expression:
        """See :meth:`Target.express`."""
        return _express(encoder, mean_std, [detectron2.RESNET], self.title)

    def write(self, expression: Expression, path: Path) -> None:
        """See :meth:`Target.write`."""
        model = {name: _array(tensor.detach()) for name, tensor in expression.weights.items()}
        content = {'model': model, '__author__': 'a2mim_mm', 'matching_heuristics': True}
        with path.open('wb') as file:
            pickle.dump(content, file, protocol=4)

    def read_back(self, expression: Expression, path: Path) -> nn.Module:
        """See :meth:`Target.read_back`."""
        model = {
            name: torch.from_numpy(array.copy()) for name, array in read_array_pickle(path)['model'].items()
        }
        return expression.naming.peer(expression.cfg, model)


class Timm(Target):
    """A state dict for ``timm.create_model``, and beside it a config with the model's name and arguments."""

    title = 'timm'

    def express(self, encoder: Encoder, mean_std: tuple | None, timm_model: str | None) -> Expression:
        """See :meth:`Target.express`."""
        return _express_for_timm(encoder, mean_std, timm_model, self.title)

    def write(self, expression: Expression, path: Path) -> None:
        """See :meth:`Target.write`."""
        write_weights(expression.weights, path)
        (config,) = self.beside(path)
        model = _timm_model(expression)
        timm().models._hub.save_config_for_hf(model, config)
        _tell_the_truth(config, expression)

    def read_back(self, expression: Expression, path: Path) -> nn.Module:
        """See :meth:`Target.read_back`."""
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
    suffixes = ()

    def express(self, encoder: Encoder, mean_std: tuple | None, timm_model: str | None) -> Expression:
        """See :meth:`Target.express`."""
        return _express_for_timm(encoder, mean_std, timm_model, self.title)

    def write(self, expression: Expression, path: Path) -> None:
        """See :meth:`Target.write`."""
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
        """See :meth:`Target.read_back`."""
        model = timm().create_model(f'local-dir:{path}', pretrained=True)
        return expression.naming.as_peer(model, expression.cfg)


class Onnx(Target):
    """An ONNX graph, ``images`` (batch, channels, H, W) in, ``features`` of the encoder out.

    Any batch, and of a CNN any H and W.
    """

    title = 'onnx'
    suffixes = ('.onnx',)
    tolerance = ONNX_TOLERANCE
    dtype = torch.float32

    def express(self, encoder: Encoder, mean_std: tuple | None, timm_model: str | None) -> Expression:
        """See :meth:`Target.express`."""
        if encoder.family == 'ConvNeXt' and not encoder.cfg['out_indices']:
            raise ConversionError('a ConvNeXt without a last norm has no output in mmpretrain')
        if encoder.family == 'SwinTransformer':
            raise ConversionError("the graph of mmpretrain's Swin would be of one batch size only")
        return OpenMMLab(self.title).express(encoder, mean_std, None)

    def write(self, expression: Expression, path: Path) -> None:
        """See :meth:`Target.write`."""
        export(Encoder(expression.cfg, expression.weights), path)

    def read_back(self, expression: Expression, path: Path) -> nn.Module:
        """See :meth:`Target.read_back`."""
        session = onnxruntime_session(path)

        def features(images: Tensor) -> Tensor:
            # One by one: the graph was made with more than one image, and takes any number of them.
            outputs = [session.run(None, {'images': image[None].numpy()})[0] for image in images]
            return torch.cat([*map(torch.from_numpy, outputs)])

        return Peer(nn.Identity(), features)


DRAFT = '.part-'  # in front of the name of a file until it is whole


def _array(tensor: Tensor) -> np.ndarray:
    """A tensor for numpy, which has no bfloat16."""
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()


def write_weights(weights: Weights, path: Path, cfg: str | None = None) -> None:
    """A state dict as ``.safetensors`` or ``.pth``, with the config of its network where given, as text."""
    from safetensors.torch import save

    weights = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
    if path.suffix == '.safetensors':
        metadata = {'format': 'pt'} if cfg is None else {'format': 'pt', 'cfg': cfg}
        path.write_bytes(save(weights, metadata=metadata))  # save_file hides it from other users
    else:
        torch.save(weights if cfg is None else dict(state_dict=weights, meta=dict(cfg=cfg)), path)


def _config_text(expression: Expression) -> str:
    """The config of an encoder as checkpoints of OpenMMLab have it, for whoever loads the weights."""
    model = dict(backbone=expression.cfg)
    if expression.mean_std is not None:
        mean, std = ([255 * value for value in values] for values in expression.mean_std)
        model['data_preprocessor'] = dict(mean=mean, std=std, to_rgb=True)
    return f'model = {model!r}'


def _express(encoder: Encoder, mean_std: tuple | None, namings: list[Naming], title: str) -> Expression:
    """By the first naming that can hold the encoder."""
    errors = []
    for naming in namings:
        if naming.family != encoder.family:
            errors.append(f'{title} names the weights of a {naming.family} here, not of a {encoder.family}')
            continue
        try:
            weights, dropped = naming.write(encoder)
        except ConversionError as error:
            errors.append(str(error))
        else:
            return Expression(naming, encoder.cfg, weights, dropped, mean_std)
    raise ConversionError(f'{title} cannot hold this encoder: {"; ".join(dict.fromkeys(errors))}')


def _express_for_timm(
    encoder: Encoder, mean_std: tuple | None, timm_model: str | None, title: str
) -> Expression:
    """By the naming of the model that is asked for, or the first of the family that can hold the encoder."""
    namings = [naming for naming in TIMM if naming.family == encoder.family]
    if timm_model is not None:
        asked = [naming for naming in TIMM if timm_model.startswith(naming.models)]
        if not asked or not timm().is_model(timm_model):
            known = ', '.join(f'{start}*' for naming in TIMM for start in naming.models)
            raise ConversionError(f'--timm-model: {timm_model} is no model of timm, or none of {known}')
        namings = [max(asked, key=lambda naming: len(naming.models[0]))]  # vit_relpos_ begins with vit_, too
    return replace(_express(encoder, mean_std, namings, title), timm_model=timm_model)


def _timm_model(expression: Expression) -> nn.Module:
    """timm's model, random but of the names and shapes of the weights."""
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
    """Keep of what timm writes for a model of its own only what is true of these weights.

    timm puts in the tag, licence, origin and paper of the weights that it has for this architecture itself.
    """
    saved = json.loads(config.read_text())
    mean, std = expression.mean_std or IMAGENET
    size = expression.input_hw or expression.cfg.get('img_size', 224)
    size_hw = [size, size] if isinstance(size, int) else list(size)
    saved['pretrained_cfg'] = dict(
        input_size=[expression.cfg.get('in_channels', 3), *size_hw],
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
