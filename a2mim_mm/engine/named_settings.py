"""Settings with short names: one word of a command line or file sets them wherever a config has them."""

from collections.abc import Iterator

from mmengine.config import Config

from a2mim_mm.errors import InputError

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def set_by_name(cfg: Config, name: str, value: object) -> None:
    """Set ``image_size``, ``mask_patch_size``, ``epochs`` or ``batch_size`` in a config of a pre-training.

    Args:
        cfg: The config, which this function changes.
        name: A key of :data:`NAMED`; others are refused.
        value: A positive whole number. For ``image_size`` also (height, width).

    Raises:
        ValueError: If the config is not one of a pre-training by A2MIM, has no place for the setting, or the
            value is another.
    """
    if name not in NAMED:
        raise InputError(f'settings of {cfg.filename}: there is no {name!r}; known: {", ".join(NAMED)}')
    if (cfg.get('model') or {}).get('type') != 'a2mim_mm.A2MIM':
        raise InputError(
            f'{name} is a setting of pre-trainings by A2MIM, but {cfg.filename} trains another model'
        )
    values = list(value) if name == 'image_size' and isinstance(value, (list, tuple)) else [value]
    if len(values) not in (1, 2) or not all(type(number) is int and number > 0 for number in values):
        sides = ', or height and width such as (96,128)' if name == 'image_size' else ''
        raise InputError(f'{name} must be a positive whole number{sides}, got {value!r}')
    NAMED[name](cfg, values[0] if len(values) == 1 else tuple(values))
    if name in cfg:
        cfg[name] = value  # the variable of the file, which is saved with checkpoints


def _set_image_size(cfg: Config, size: int | tuple[int, int]) -> None:
    crops = [step for step in _steps(cfg) if step['type'].endswith('RandomResizedCrop')]
    if not crops:
        raise InputError(f'image_size: no pipeline of {cfg.filename} has a RandomResizedCrop')
    for crop in crops:
        crop['scale'] = size if isinstance(size, int) else size[::-1]  # width first, as mmcv has it
    cfg.model['image_size'] = size
    if 'img_size' in cfg.model.backbone:
        cfg.model.backbone['img_size'] = size


def _set_mask_patch_size(cfg: Config, size: int) -> None:
    cfg.model.setdefault('mask', dict(type='a2mim_mm.RandomPatchMask'))['patch_size'] = size


def _set_epochs(cfg: Config, epochs: int) -> None:
    if 'max_epochs' not in (cfg.get('train_cfg') or {}):
        raise InputError(f'epochs: {cfg.filename} does not count epochs (train_cfg.max_epochs)')
    cfg.train_cfg['max_epochs'] = epochs


def _set_batch_size(cfg: Config, batch_size: int) -> None:
    for loader in _LOADERS:
        if cfg.get(loader):
            cfg[loader]['batch_size'] = batch_size


def _steps(cfg: Config) -> Iterator[dict]:
    """The steps of all pipelines, those inside wrappers such as ``RepeatDataset`` too."""
    waiting = [cfg[loader].get('dataset') for loader in _LOADERS if cfg.get(loader)]
    while waiting:
        dataset = waiting.pop()
        if isinstance(dataset, dict):
            waiting += [dataset.get('dataset'), *(dataset.get('datasets') or ())]
            yield from dataset.get('pipeline') or ()


NAMED = dict(
    image_size=_set_image_size,
    mask_patch_size=_set_mask_patch_size,
    epochs=_set_epochs,
    batch_size=_set_batch_size,
)
