"""Registries of this package: children of mmengine's roots, scope ``a2mim_mm``.

Being children of the root (not of mmpretrain's registries), their classes are
found from the scope of any host: a config keeps the host's ``default_scope``
and writes ``type='a2mim_mm.A2MIM'``, nested types included. ``locations`` are
imported when a name of this scope is first asked for.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry


def _child(parent: Registry, *rooms: str) -> Registry:
    locations = [f'a2mim_mm.{room}' for room in rooms]
    return Registry(parent.name, parent=parent, scope='a2mim_mm', locations=locations)


MODELS = _child(MMENGINE_MODELS, 'models', 'backbones', 'transfer')
DATASETS = _child(MMENGINE_DATASETS, 'data')
TRANSFORMS = _child(MMENGINE_TRANSFORMS, 'data')
DATA_SAMPLERS = _child(MMENGINE_DATA_SAMPLERS, 'data')
HOOKS = _child(MMENGINE_HOOKS, 'engine')
METRICS = _child(MMENGINE_METRICS, 'engine')
OPTIM_WRAPPERS = _child(MMENGINE_OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, 'transfer')
