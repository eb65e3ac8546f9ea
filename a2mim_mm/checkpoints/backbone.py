"""Fills a backbone from a checkpoint: completely, or not at all.

mmengine's ``init_cfg`` and ``load_from`` load the names that match and warn of the rest, so a training can
start from weights that are half random. Here every parameter and buffer of the backbone must come from the
checkpoint, except those that the config lists as new.
"""

import inspect
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from a2mim_mm.errors import InputError, first_names

from .errors import CheckpointError
from .load import check_finite, load_what_fits, plain_names
from .read import load_checkpoint_file
from .saved_config import read_saved_config, registered_class

BACKBONE = 'backbone'
_UNSEEN = ('style', 'patch_size')  # what weights do not show: strides within blocks, and resized patches
MISSING, MISSHAPEN = 'not in the checkpoint', 'of another shape'  # rows of the table
_OTHERS = 'tools/convert_checkpoint.py converts checkpoints of other libraries'
_POSITIONS = ('pos_embed', 'relative_position_bias_table')  # tensors of an encoder that a model may lack


@dataclass(frozen=True)
class PretrainedWeights:
    """The backbone in a checkpoint, and what it is to fill.

    Args:
        source: Where it comes from, for messages.
        weights: Names within the backbone, and tensors.
        outside: Names of what else the checkpoint holds: decoder, mask token, classifier.
        parts: Sub-modules of the model that make up the backbone: ``backbone``, and in a C4 detector also
            ``roi_head.shared_head``.
        fresh_params: How names of new parameters begin, within a part. The checkpoint must not hold them.
        saved: What the checkpoint's own config says, see :func:`read_saved_config`.
    """

    source: str
    weights: dict[str, torch.Tensor]
    outside: tuple[str, ...]
    parts: tuple[str, ...] = (BACKBONE,)
    fresh_params: tuple[str, ...] = ()
    saved: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_names('pretrained_parts', self.parts, "('backbone',)")
        _check_names('fresh_params', self.fresh_params, "('ln2.',)")
        if not self.parts:
            raise InputError(f'pretrained_parts is empty; by default it is {(BACKBONE,)}')

    def load_into(self, model: nn.Module) -> str:
        """Fill the model's backbone. A backbone may resample its position embedding and bias tables.

        Returns:
            A table: how many tensors were loaded, resampled, new, or left over, with the first names.

        Raises:
            CheckpointError: If a parameter or buffer is not filled and not listed as new; if one that is
                listed is in the checkpoint or not in the model; if a shape differs; or if the encoder in the
                checkpoint has more layers. The message holds the table.
            ValueError: If the model has no sub-module with the name of a part.
        """
        modules = {part: _submodule(model, part) for part in self.parts}
        titles = {part: self._load_part(module) for part, module in modules.items()}
        groups = {title: [] for title in ('loaded', 'resampled', 'new', MISSING, MISSHAPEN)}
        for part, names in titles.items():
            for name, title in names.items():
                groups[title].append(f'{part}.{name}')
        expected = {name for module in modules.values() for name in module.state_dict()}
        unused = {name: value for name, value in self.weights.items() if name not in expected}
        groups['left over'] = [*unused, *self.outside]

        children = {name for module in modules.values() for name, _ in module.named_children()}
        fresh = self.fresh_params
        problems = {
            'of pretrained_parts without any tensor from the checkpoint': [
                part for part, names in titles.items() if not {'loaded', 'resampled'} & {*names.values()}
            ],
            MISSING: groups[MISSING],
            MISSHAPEN: groups[MISSHAPEN],
            'left over of a deeper or other encoder': _of_the_encoder(unused, children),
            'listed in fresh_params, but in the checkpoint': [
                name for name in self.weights if name in expected and name.startswith(fresh)
            ],
            'listed in fresh_params, but not in the model': [
                start for start in fresh if not any(name.startswith(start) for name in expected)
            ],
        }
        found = [f'{len(names)} {title} ({first_names(names)})' for title, names in problems.items() if names]
        table = _table(groups)
        if found:
            raise CheckpointError(
                f'{self.source} does not fill this {type(model).__name__}: {"; ".join(found)}\n{table}\n'
                f'{_OTHERS}'
            )
        return f'backbone from {self.source}\n{table}'

    def _load_part(self, module: nn.Module) -> dict[str, str]:
        """Load what fits into one part, and sort its tensors into the groups of the table."""
        try:
            misfit = load_what_fits(module, self.weights)
        except (AssertionError, RuntimeError, ValueError) as error:  # raised by a backbone that resamples
            raise CheckpointError(
                f'{self.source} does not fit this {type(module).__name__}: {error}'
            ) from error
        titles = {}
        for name, tensor in module.state_dict().items():
            if name in misfit.misshapen:
                titles[name] = MISSHAPEN
            elif name in self.weights:
                titles[name] = 'loaded' if self.weights[name].shape == tensor.shape else 'resampled'
            elif name.startswith(self.fresh_params):
                titles[name] = 'new'
            elif name in misfit.missing:
                titles[name] = MISSING
        return titles


def load_pretrained(model: nn.Module, path: str | Path, cfg: Config) -> str:
    """Fill a model's backbone; ``pretrained_parts`` and ``fresh_params`` of the config say what that is.

    Returns and raises like :meth:`PretrainedWeights.load_into`.
    """
    return read_as_configured(path, cfg).load_into(model)


def read_pretrained(path: str | Path, **kwargs) -> PretrainedWeights:
    """Find the backbone in a checkpoint.

    Args:
        path: Checkpoint of a training of this package or of mmengine, in which the backbone's names begin
            with ``backbone.``; or a plain state dict of a backbone. ``.pth`` or ``.safetensors``.
        **kwargs: ``parts`` and ``fresh_params`` of :class:`PretrainedWeights`.

    Raises:
        CheckpointError: If the file cannot be read, or holds no weights.
    """
    return find_pretrained(load_checkpoint_file(path), path, **kwargs)


def find_pretrained(checkpoint: dict, path: str | Path, **kwargs) -> PretrainedWeights:
    """:func:`read_pretrained` for the content of a file."""
    content = checkpoint.get('state_dict', checkpoint)
    if not isinstance(content, dict):
        raise CheckpointError(
            f'the state_dict in {path} is of type {type(content).__name__}, no dict of weights'
        )
    tensors = plain_names(
        {
            key: value
            for key, value in content.items()
            if isinstance(key, str) and isinstance(value, torch.Tensor)
        }
    )
    check_finite(tensors, str(path))
    if not tensors:
        keys = first_names([*map(str, content)])
        raise CheckpointError(
            f'{path} holds no weights: ' + (f'its keys are {keys}. {_OTHERS}' if keys else 'it is empty')
        )
    prefix = f'{BACKBONE}.'
    inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    outside = tuple(key for key in tensors if not key.startswith(prefix)) if inside else ()
    try:
        saved = read_saved_config(checkpoint, str(path))
    except CheckpointError:
        saved = {}
    return PretrainedWeights(str(path), inside or tensors, outside, saved=saved, **kwargs)


def fill_backbone(network: nn.Module, checkpoint: dict, source: str) -> None:
    """Fill a network that is the backbone in a checkpoint, or the whole of it."""
    find_pretrained(checkpoint, source).load_into(nn.ModuleDict({BACKBONE: network}))


def read_as_configured(path: str | Path, cfg: Config) -> PretrainedWeights:
    """:func:`read_pretrained` with ``pretrained_parts`` and ``fresh_params`` of a config, and its network."""
    pretrained = read_pretrained(path, **parts_of(cfg))
    check_same_network(pretrained.saved, cfg, pretrained.source)
    return pretrained


def parts_of(cfg: Config) -> dict[str, tuple[str, ...]]:
    """``parts`` and ``fresh_params`` of :class:`PretrainedWeights`, as a config has them."""
    return dict(
        parts=_as_tuple(cfg.get('pretrained_parts', (BACKBONE,))),
        fresh_params=_as_tuple(cfg.get('fresh_params', ())),
    )


def check_same_network(saved: dict, cfg: Config, source: str) -> None:
    """Compare what weights do not show: the config in the checkpoint, if it has one, with the training's.

    Raises:
        CheckpointError: If heads, strides within blocks, or patches differ. Names both values.
    """
    theirs, ours = (_facts((one.get('model') or {}).get(BACKBONE)) for one in (saved, cfg))
    differing = [
        f'{key} is {theirs[key]!r} there and {ours[key]!r} here'
        for key in theirs.keys() & ours.keys()
        if theirs[key] != ours[key]
    ]
    if differing:
        raise CheckpointError(
            f'{source} belongs to another network, although names and shapes agree: '
            f'{"; ".join(sorted(differing))} (model.{BACKBONE}). Write the values of the checkpoint'
        )


def differing_images(saved: dict, cfg: Config, source: str) -> list[str]:
    """How the images of a checkpoint were normalised, if the training does it in another way."""
    theirs, ours = (_normalisation(one) for one in (saved, cfg))
    return [
        f'{source} was trained on images with {key}={theirs[key]}, here data_preprocessor has {ours[key]}'
        for key in theirs.keys() & ours.keys()
        if not np.allclose(theirs[key], ours[key], rtol=0, atol=0.51)
    ]


def _facts(backbone: object) -> dict:
    """What a backbone's config says and its weights do not show."""
    if not isinstance(backbone, dict):
        return {}
    kind = registered_class(backbone.get('type'))
    arch = backbone.get('arch')
    if isinstance(arch, str):
        arch = getattr(kind, 'arch_zoo', {}).get(arch)
    heads = arch.get('num_heads') if isinstance(arch, dict) else None
    facts = dict(num_heads=list(heads) if isinstance(heads, (list, tuple)) else heads)
    defaults = inspect.signature(kind).parameters if isinstance(kind, type) else {}
    for key in _UNSEEN:
        default = defaults[key].default if key in defaults else None
        facts[key] = backbone.get(key, default)
    # A training config also names classes of mmdet, whose defaults this package does not know.
    return {key: value for key, value in facts.items() if isinstance(value, (int, str, list))}


def _normalisation(cfg: dict) -> dict:
    """Mean, std and colour order of a config's images."""
    preprocessor = (cfg.get('model') or {}).get('data_preprocessor') or cfg.get('data_preprocessor')
    if not isinstance(preprocessor, dict):
        return {}
    found = {key: preprocessor[key] for key in ('mean', 'std') if preprocessor.get(key) is not None}
    rgb = preprocessor.get('to_rgb', preprocessor.get('bgr_to_rgb'))
    return found if rgb is None else {**found, 'RGB': bool(rgb)}


def _as_tuple(names: object) -> object:
    """A list from a config or --cfg-options as a tuple; anything else is left to the check of names."""
    return tuple(names) if isinstance(names, list) else names


def _check_names(key: str, names: object, example: str) -> None:
    if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
        raise InputError(f'{key} must be a tuple of names, such as {example}, got {names!r}')


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise InputError(
            f'pretrained_parts: this {type(model).__name__} has no {name!r}; it has '
            f'{", ".join(child for child, _ in model.named_children())}'
        ) from error


def _of_the_encoder(unused: dict[str, torch.Tensor], children: set[str]) -> list[str]:
    """Names that belong to an encoder like the model's, not to a head.

    These are: its position tensors; further parts of modules that the model has, such as ``layers.12.``; and
    further modules of a kind, such as ``layer4`` next to ``layer3``. Mere norms do not count, such as the
    ``ln2`` of mean pooling.
    """
    families = {child.rstrip('0123456789') for child in children}
    found = []
    for name, tensor in unused.items():
        module, _, rest = name.partition('.')
        beside = module.rstrip('0123456789') in families and tensor.ndim > 1
        of_encoder = (module in children or beside) if rest else name in _POSITIONS
        if of_encoder and not name.endswith('num_batches_tracked'):
            found.append(name)
    return found


def _table(groups: dict[str, list[str]]) -> str:
    return '\n'.join(f'  {title:<22}{len(names):>5}  {first_names(names)}' for title, names in groups.items())
