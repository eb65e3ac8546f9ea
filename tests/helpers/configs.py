"""The shipped configs, read for a machine without a GPU, and their models."""

import copy
import inspect
from functools import cache, partial
from pathlib import Path
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from a2mim_mm.checkpoints.backbone import PretrainedWeights as PretrainedWeights
from a2mim_mm.engine.config import load_config as load_config
from a2mim_mm.engine.machine import fit_to_cpu
from a2mim_mm.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs'
# 'clothing/finetune_resnet18' and the like: the configs of experiments
PROJECTS = {
    f'{path.relative_to(ROOT).parts[1]}/{path.stem}': path
    for pattern in ('configs/clothing/*.py', 'configs/nuclei/*.py', 'projects/*/configs/**/*.py')
    for path in sorted(ROOT.glob(pattern))
}
# What training and testing read from a config; the rest are variables that the file uses.
SECTIONS = {*inspect.signature(Runner.__init__).parameters, 'amp_dtype', 'start', 'fresh_params'}


def names(pattern: str) -> list[str]:
    """Names, such as 'selfsup/a2mim_r50', of the configs that match a pattern."""
    return sorted(str(path.relative_to(CONFIGS).with_suffix('')) for path in CONFIGS.glob(f'{pattern}.py'))


def path_of(name: str) -> Path:
    return PROJECTS.get(name, CONFIGS / f'{name}.py')


@cache
def _parsed(path: Path) -> Config:
    return Config.fromfile(path)


def as_written(name: str) -> Config:
    """A copy of a config."""
    return copy.deepcopy(_parsed(path_of(name)))


def read(name: str) -> Config:
    """A copy of a config that works without a GPU, and its default scope in force."""
    cfg = as_written(name)
    fit_to_cpu(cfg)
    init_default_scope(cfg.default_scope)
    return cfg


def build(cfg: Config) -> torch.nn.Module:
    """The model of a config, at full size."""
    init_default_scope(cfg.default_scope)
    model = copy.deepcopy(cfg.model)
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return MODELS.build(model)


def outline(cfg: Config) -> torch.nn.Module:
    """The model of a config on the meta device, for what its names, shapes and settings tell."""
    linspace = partial(torch.linspace, device='cpu')  # mmpretrain asks for its numbers while it builds
    with torch.device('meta'), mock.patch('torch.linspace', linspace):
        return build(cfg)


def rates_of(cfg: Config, model: torch.nn.Module) -> dict[str, tuple[float, float]]:
    """(lr, weight decay) of each parameter, by its name; none may be frozen or left out."""
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    rates = {id(p): (group['lr'], group['weight_decay']) for group in groups for p in group['params']}
    return {name: rates[id(param)] for name, param in model.named_parameters()}


def decays(model: torch.nn.Module, name: str) -> bool:
    """Whether a parameter should have weight decay: matrices have, but embeddings and bias tables."""
    special = ('cls_token', 'pos_embed', 'relative_position_bias_table')
    return model.get_parameter(name).ndim > 1 and not name.endswith(special)


def steps_of(loader: dict) -> dict[str, dict]:
    """The steps of a loader's pipeline, by their types without the scope."""
    return {step.type.rpartition('.')[2]: step for step in loader.dataset.pipeline}


def changes(name: str, base: str) -> dict[str, object]:
    """The settings of a config that differ from another's, by their dotted names; None for those left out."""
    own, other = (
        _flat({k: v for k, v in as_written(n).to_dict().items() if k in SECTIONS}) for n in (name, base)
    )
    return {key: own.get(key) for key in own.keys() | other.keys() if own.get(key) != other.get(key)}


def _flat(node: object, prefix: str = '') -> dict[str, object]:
    if not isinstance(node, dict) and not (isinstance(node, list) and any(isinstance(v, dict) for v in node)):
        return {prefix: node}
    children = node.items() if isinstance(node, dict) else enumerate(node)
    return {
        key: value
        for name, child in children
        for key, value in _flat(child, f'{prefix}.{name}' if prefix else str(name)).items()
    }
