"""The call: from a network and a folder to a trained backbone."""

import os
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.runner import Runner
from torch import nn

from a2mim_mm.backbones.sites import survey
from a2mim_mm.checkpoints import install_safe_loader
from a2mim_mm.checkpoints.load import build_network
from a2mim_mm.data import UnlabelledImages
from a2mim_mm.engine.config import load_config
from a2mim_mm.engine.distributed import init_distributed
from a2mim_mm.engine.hooks import LiveLineHook
from a2mim_mm.engine.named_settings import set_by_name
from a2mim_mm.engine.start import last_checkpoint
from a2mim_mm.engine.training import build_training
from a2mim_mm.errors import InputError

from . import defaults
from .config_file import NAME, check_same, write_config
from .memory import images_that_fit
from .networks import CONFIGS, Network, find_network, network_of_weights

AUTO = 'auto'
_FEW = 100
_FEW_TEXT = 'images are few: the network learns little but these'
_CHECKPOINTS = 20  # of a training, of which the last three are kept
_PICTURES = 10
_AUTOMATIC = ('mask_patch_size', 'epochs', 'batch_size')


def pretrain(
    data: str | Path,
    backbone: str | dict | nn.Module | None = None,
    *,
    out: str | Path,
    image_size: int | tuple[int, int] = 224,
    mask_patch_size: int | str = AUTO,
    epochs: int | str = AUTO,
    batch_size: int | str = AUTO,
    workers: int | str = AUTO,
    pretrained: str | Path | None = None,
    seed: int = 0,
    amp: bool | None = None,
    overwrite: bool = False,
) -> Path:
    """Pre-train a network by A2MIM on a folder of images.

    It writes an ordinary config, ``out/config.py``, and trains it with mmengine's Runner, as
    ``tools/train.py`` does. A second call with the same settings goes on where the first was stopped.

    Args:
        data: Folder of images, nested or not, without labels.
        backbone: ``'resnet50'``, ``'vit_base'`` or another name of ``configs/selfsup/zoo``; ``'timm:NAME'``;
            the config of a class, such as ``dict(type='mmpretrain.ResNet', depth=50)``; or a module whose
            last output is a feature map. The default is ResNet-50, or the network in ``pretrained``.
        out: Folder for config, checkpoints, log and pictures.
        image_size: Side of the images in pixels, or height and width.
        mask_patch_size: Side of a mask patch in pixels; see :func:`.defaults.choose_mask_patch`.
        epochs: How often each image is seen; see :func:`.defaults.choose_epochs`.
        batch_size: Images of a rank in one step; see :func:`.defaults.choose_batch`.
        workers: Processes of a rank that decode images.
        pretrained: File of weights from which the backbone starts, of this package or another library; see
            :mod:`a2mim_mm.convert.adopt`. The training is shorter then, with a lower lr and layer-wise decay.
        seed: Seed of weights, crops and masks.
        amp: Mixed precision on or off; by default on with a GPU.
        overwrite: Replace another pre-training in ``out``.

    Returns:
        The last checkpoint, for :func:`a2mim_mm.apis.load_backbone`.

    Raises:
        ValueError: If a setting is not possible, or ``out`` holds a pre-training with other settings.
        FileNotFoundError: If there is no image.
    """
    install_safe_loader()
    out = Path(out).expanduser()
    asked = dict(mask_patch_size=mask_patch_size, epochs=epochs, batch_size=batch_size, workers=workers)
    _check_numbers(asked)
    if out.exists() and not out.is_dir():
        raise InputError(f'out {str(out)!r} is a file: name a folder')
    launcher = 'pytorch' if 'RANK' in os.environ else 'none'  # torchrun sets it
    init_distributed(Config(dict(launcher=launcher)))
    path = out / NAME
    known = path.is_file() and not overwrite and last_checkpoint(out) is not None
    images = len(UnlabelledImages(Path(data).expanduser()))
    if backbone is None and pretrained is not None:
        network = network_of_weights(pretrained)
    else:
        network = find_network('resnet50' if backbone is None else backbone, image_size)
    if get_rank() == 0:
        asked |= dict(image_size=image_size, seed=seed, pretrained=pretrained)
        body = _body(network, Path(data).expanduser().resolve(), images, asked, path if known else None)
        header = _header(network, images, data, out, pretrained)
        (check_same if known else write_config)(path, header, network.base, body)
    barrier()
    runner = build_training(
        load_config(str(path)),
        work_dir=str(out),
        resume='auto' if known else None,
        overwrite=overwrite,
        pretrained=None if pretrained is None else str(pretrained),
        amp=amp,
        launcher=launcher,
    )
    if images < _FEW:
        runner.logger.warning(f'{images} {_FEW_TEXT}')
    _train(runner)
    return last_checkpoint(out)


def _train(runner: Runner) -> None:
    line = LiveLineHook()
    runner.register_hook(line)
    try:
        runner.train()
    finally:
        line.close(runner)


def _check_numbers(asked: dict[str, object]) -> None:
    for name, value in asked.items():
        if value != AUTO and not (type(value) is int and value >= (0 if name == 'workers' else 1)):
            raise InputError(f"{name} must be a positive whole number or 'auto', got {value!r}")


def _body(network: Network, data: Path, images: int, asked: dict, path: Path | None) -> dict:
    """What the config sets; what the user leaves out follows from the config at ``path``, or is chosen."""
    size = asked['image_size']
    body = dict(settings=dict(image_size=size))
    if network.backbone:
        body['model'] = dict(backbone=network.backbone)
    cfg = Config.fromfile(str(network.base))
    cfg.merge_from_dict(body)
    set_by_name(cfg, 'image_size', size)
    size_hw = (size, size) if isinstance(size, int) else tuple(size)
    if path is not None:
        body['settings'], workers = _settled(path, asked)
    else:
        body['settings'], workers = _chosen(cfg, size_hw, images, asked)
    body['settings']['image_size'] = size
    epochs, batch = body['settings']['epochs'], body['settings']['batch_size']
    body |= _loaders(data, workers) | _training(cfg, epochs, batch * get_world_size())
    body['randomness'] = dict(seed=asked['seed'])
    if asked['pretrained'] is not None:
        _go_on_from_weights(body, network)
    return body


def _settled(path: Path, asked: dict) -> tuple[dict, int]:
    """The settings of a pre-training that has begun, where the user leaves them open."""
    there = Config.fromfile(str(path))
    settings = {name: there.settings[name] if asked[name] == AUTO else asked[name] for name in _AUTOMATIC}
    workers = there.train_dataloader.num_workers if asked['workers'] == AUTO else asked['workers']
    return settings, workers


def _chosen(cfg: Config, size_hw: tuple[int, int], images: int, asked: dict) -> tuple[dict, int]:
    """The settings of a new pre-training, where the user leaves them open."""
    found = survey(build_network(cfg.model.backbone), size_hw)
    settings = {name: asked[name] for name in _AUTOMATIC}
    if settings['mask_patch_size'] == AUTO:
        strides = {found.sites[name].stride for name in found.blocks}
        settings['mask_patch_size'] = defaults.choose_mask_patch(size_hw, strides)
    set_by_name(cfg, 'mask_patch_size', settings['mask_patch_size'])
    if settings['epochs'] == AUTO:
        choose = (
            defaults.choose_epochs if asked['pretrained'] is None else defaults.choose_epochs_from_weights
        )
        settings['epochs'] = choose(images)
    if settings['batch_size'] == AUTO:
        fitting = images_that_fit(cfg, size_hw)
        settings['batch_size'] = defaults.choose_batch(images, fitting, get_world_size())
    here = int(os.environ.get('LOCAL_WORLD_SIZE', '1'))
    return settings, defaults.choose_workers(here) if asked['workers'] == AUTO else asked['workers']


def _training(cfg: Config, epochs: int, batch: int) -> dict:
    """Learning rate, warm-up, and how often the training saves and draws."""
    base = cfg.auto_scale_lr.base_batch_size
    warmup = defaults.choose_warmup(epochs)
    lr = defaults.scale_lr(cfg.optim_wrapper.optimizer.lr, base, batch)
    schedule = [dict(one) for one in cfg.param_scheduler]
    schedule[0]['end'] = schedule[1]['begin'] = warmup
    return dict(
        optim_wrapper=dict(optimizer=dict(lr=float(f'{lr:.4g}'))),
        auto_scale_lr=dict(base_batch_size=batch),
        param_scheduler=schedule,
        default_hooks=dict(checkpoint=dict(interval=max(1, epochs // _CHECKPOINTS))),
        custom_hooks=[
            *(dict(one) for one in cfg.custom_hooks if one['type'] != 'a2mim_mm.ReconstructionHook'),
            dict(type='a2mim_mm.ReconstructionHook', interval=max(1, epochs // _PICTURES)),
        ],
    )


def _go_on_from_weights(body: dict, network: Network) -> None:
    """Change the config of a training from random weights as ``configs/selfsup/continue_from.py`` does."""
    optimizer = Config.fromfile(str(CONFIGS / 'selfsup' / 'continue_from.py')).optim_wrapper
    usual = Config.fromfile(str(CONFIGS / 'selfsup' / 'a2mim_vit-b.py')).optim_wrapper
    body['start'] = 'pretrained'
    body['optim_wrapper']['optimizer']['lr'] *= optimizer.optimizer.lr / usual.optimizer.lr
    body['optim_wrapper'] |= dict(
        constructor=optimizer.constructor,
        paramwise_cfg=dict(layer_decay_rate=optimizer.paramwise_cfg.layer_decay_rate),
    )
    if network.mean_std is not None:
        mean, std = ([round(255 * value, 3) for value in values] for values in network.mean_std)
        body['data_preprocessor'] = dict(mean=mean, std=std)


def _loaders(data: Path, workers: int) -> dict:
    loader = dict(num_workers=workers, persistent_workers=workers > 0, dataset=dict(data_root=str(data)))
    return dict(train_dataloader=loader, test_dataloader=loader)


def _header(network: Network, images: int, data: object, out: Path, pretrained: object) -> list[str]:
    about = network.backbone
    name = about.get('model_name', about.get('name', about.get('type', network.base.stem)))
    start = f', from the weights in {pretrained}' if pretrained else ''
    lines = [
        f'A2MIM with {name} on the {images:,} images below {data}{start}. Change what you like, and train:',
        f'python tools/train.py {out / NAME} --work-dir ANOTHER_FOLDER',
    ]
    if images < _FEW:
        lines.append(f'{images} {_FEW_TEXT}')
    return lines
