"""A2MIM in three lines of Python, without a config or a Runner.

    from a2mim_mm.apis import extract_features, load_backbone
    backbone = load_backbone('work_dirs/a2mim_vit-s/epoch_300.pth')
    features = extract_features(backbone, ['photo.jpg'], layers=['layers.4', 'layers.11'])

    from a2mim_mm.apis import load_model, reconstruct
    model = load_model('work_dirs/a2mim_vit-s/epoch_300.pth')
    pictures = reconstruct(model, ['photo.jpg'])

Images are files, folders, PIL images, arrays or a tensor. All but a tensor are resized to the size of the
training. All are normalised and moved to the device of the model. No code in a checkpoint is run.

A network that was trained on images of ``LoadChannels`` takes what that transform reads: files, and arrays
(H, W, C) in the units of the files, are scaled by its ``value_range``. A tensor (B, C, H, W) is in the units
of mean and std. Its ``pretrained_cfg`` holds C of each, in these units, and ``loader``, the arguments of the
transform.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from a2mim_mm.checkpoints.backbone import BACKBONE, fill_backbone
from a2mim_mm.checkpoints.errors import CheckpointError
from a2mim_mm.checkpoints.load import load_network
from a2mim_mm.checkpoints.read import load_checkpoint_file
from a2mim_mm.checkpoints.saved_config import (
    channels_loader,
    check_network,
    read_saved_config,
    saved_input_size,
    saved_pipeline,
)
from a2mim_mm.data.channels import EXTENSIONS, LoadChannels, read_channels
from a2mim_mm.data.reading import cover, fit_image, list_images, read_image
from a2mim_mm.errors import InputError
from a2mim_mm.models import A2MIM
from a2mim_mm.models.reconstruct import draw_mask, evaluating, reconstruct_channels
from a2mim_mm.models.reconstruct import reconstruct as reconstruct_photos

Images = Tensor | np.ndarray | Image.Image | str | Path | Iterable[np.ndarray | Image.Image | str | Path]

_BATCH = 32  # images that go through a network at once
# ImageNet's, for checkpoints that do not say; all configs of this package use them. RGB in 0..1.
_DEFAULT_CFG = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), input_size=(3, 224, 224))


def load_backbone(path: str | Path, backbone: dict | nn.Module | None = None) -> nn.Module:
    """The backbone in a checkpoint, in evaluation mode, on the CPU.

    Args:
        path: Checkpoint of a training of this package (pre-training or later), or a plain state dict of a
            backbone; ``.pth`` or ``.safetensors``.
        backbone: Config of the backbone, such as ``dict(type='ResNet', depth=50)`` (types of mmpretrain, and
            of other libraries with their prefix), or the network itself. None takes the config in the
            checkpoint.

    Returns:
        The backbone with all of its weights from the file. As in timm, its attribute ``pretrained_cfg`` holds
        ``mean`` and ``std`` (RGB, of images in 0..1) and ``input_size`` (3, H, W); of images that are not
        photos, see the top of this file.

    Raises:
        CheckpointError: If the file cannot be read, does not describe its network, does not fill it, or was
            trained on BGR images.
    """
    checkpoint, saved = load_checkpoint_file(path), {}
    try:
        saved = read_saved_config(checkpoint, str(path))
    except CheckpointError:
        if backbone is None:
            raise
    if backbone is None:
        backbone = saved['model'].get(BACKBONE)
        if not isinstance(backbone, dict):
            raise CheckpointError(f'the model in {path} has no backbone')
        check_network(backbone, str(path))
    if isinstance(backbone, nn.Module):
        fill_backbone(backbone, checkpoint, str(path))
        network = backbone
        network.eval()
    else:
        network = load_network(backbone, checkpoint, str(path), fill=fill_backbone)
    return _with_images(network, saved, path)


def load_model(path: str | Path) -> A2MIM:
    """The whole model of a pre-training, with decoder and mask token, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: If the file cannot be read, or is not from a pre-training by A2MIM.
    """
    checkpoint = load_checkpoint_file(path)
    saved = read_saved_config(checkpoint, str(path))
    if saved['model'].get('type') != 'a2mim_mm.A2MIM':
        raise CheckpointError(
            f'{path} holds a {saved["model"].get("type")}, but only an A2MIM pre-training reconstructs images'
        )
    cfg = {'data_preprocessor': saved.get('data_preprocessor'), **saved['model']}
    check_network(cfg, str(path))
    model = _with_images(load_network(cfg, checkpoint, str(path)), saved, path)
    model.backbone.pretrained_cfg = model.pretrained_cfg
    return model


def extract_features(
    backbone: nn.Module,
    images: Images,
    layers: Sequence[str] = (),
    batch_size: int = _BATCH,
    pool: bool = False,
) -> tuple[Tensor, ...] | dict[str, Tensor]:
    """Features of images, in evaluation mode and without gradients.

    Args:
        backbone: The result of :func:`load_backbone`, or any network. Its ``pretrained_cfg`` has mean, std
            and input size. The defaults are ImageNet's, and 224.
        images: One or several image files, folders, PIL images or arrays (RGB, uint8 (H, W, 3)). They are
            resized and cropped at the centre to the input size. Or a tensor of RGB images, (B, 3, H, W),
            float in 0..1, which keep their size. Networks for other images: see the top of this file.
        layers: Names of sub-modules, such as ``['layers.7']``. The output of each is a feature.
        batch_size: Number of images that go through the network at once.
        pool: Whether to average each feature over its positions, without cls and other extra tokens: (B, C).

    Returns:
        With ``layers``, a dict with the output of each sub-module, on the CPU: (B, C, h, w) for a stage of a
        CNN, (B, 1 + h * w, C) for a layer of a ViT, cls token first. Without ``layers``, the outputs of the
        backbone.

    Raises:
        ValueError: If a sub-module does not exist, is not run or does not return a tensor, or if the images
            have another form.
        FileNotFoundError: If an image does not exist.
        UnreadableImageError: If an image cannot be decoded.
    """
    parts = [*iterate_features(backbone, images, layers, batch_size, pool)]
    if layers:
        return {name: torch.cat([part[name] for part in parts]) for name in layers}
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def iterate_features(
    backbone: nn.Module,
    images: Images,
    layers: Sequence[str] = (),
    batch_size: int = _BATCH,
    pool: bool = False,
) -> Iterator[tuple[Tensor, ...] | dict[str, Tensor]]:
    """Like :func:`extract_features`, but one batch at a time, for data whose features do not fit in memory.

    ``images`` may also be a generator. It is read only as far as batches are needed.
    """
    if isinstance(layers, str):
        raise InputError(f'layers must be a list of names, such as [{layers!r}]')
    known = dict(backbone.named_modules())
    unknown = [name for name in layers if name not in known]
    if unknown:
        children = ', '.join(name for name, _ in backbone.named_children())
        raise InputError(
            f'layers: this {type(backbone).__name__} has no {", ".join(unknown)}; it is made of {children}'
        )
    for batch in _batches(images, _config_of(backbone), batch_size):
        features = _forward(backbone, layers, _normalise(backbone, batch))
        if pool:
            features = tuple(_pooled(feature, backbone) for feature in features)
        yield dict(zip(layers, features, strict=True)) if layers else features


def reconstruct(model: A2MIM, images: Images, seed: int = 0) -> dict[str, Tensor]:
    """Predict the hidden parts of images with a pre-trained model.

    Args:
        model: The result of :func:`load_model`.
        images: As for :func:`extract_features`.
        seed: Seed of the masks.

    Returns:
        As :func:`a2mim_mm.models.reconstruct.reconstruct`: ``original``, ``masked``, ``prediction`` and
        ``composite``, RGB images (B, 3, H, W) in 0..1, on the CPU; of images that are not photos,
        (B, C, H, W) in the units of mean and std, which :func:`a2mim_mm.drawing.to_rgb` shows.

    Raises:
        ValueError: If the images are not RGB in 0..1, or if the mask patch does not divide their size.
        FileNotFoundError: If an image does not exist.
        UnreadableImageError: If an image cannot be decoded.
    """
    device, parts, first = next(model.parameters()).device, [], 0
    draw = reconstruct_channels if _config_of(model).get('loader') else reconstruct_photos
    for batch in _batches(images, _config_of(model), _BATCH):
        mask_bhw = draw_mask(model, batch, seed, first)
        parts.append(draw(model, batch.to(device), mask_bhw))
        first += len(batch)
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


def _with_images(model: nn.Module, saved: dict, path: str | Path) -> nn.Module:
    """The model, with ``pretrained_cfg`` from its training."""
    model.pretrained_cfg = dict(_DEFAULT_CFG)
    loader = channels_loader(saved_pipeline(saved))
    preprocessor = saved.get('data_preprocessor') or saved.get('model', {}).get('data_preprocessor')
    if preprocessor or loader:
        model.pretrained_cfg.update(_normalisation(preprocessor or {}, loader, path))
    size_hw = saved_input_size(saved) or _DEFAULT_CFG['input_size'][1:]
    model.pretrained_cfg['input_size'] = (loader['channels'] if loader else 3, *size_hw)
    if loader:
        model.pretrained_cfg['loader'] = loader
    return model


def _normalisation(preprocessor: dict, loader: dict | None, path: str | Path) -> dict[str, tuple[float, ...]]:
    """Mean and std from the config of a preprocessor: for photos in 0..1, which it has for 0..255."""
    unit = 1 if loader else 255
    if not loader and not (preprocessor.get('to_rgb') or preprocessor.get('bgr_to_rgb')):
        raise CheckpointError(f'{path} was trained on BGR images, but this function gives RGB images')
    try:
        return {key: tuple(float(value) / unit for value in preprocessor[key]) for key in ('mean', 'std')}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'the config in {path} has no mean and std of one number a channel') from error


def _config_of(model: nn.Module) -> dict:
    return getattr(model, 'pretrained_cfg', _DEFAULT_CFG)


def _batches(images: Images, config: dict, batch_size: int) -> Iterator[Tensor]:
    """Images (b, C, H, W), ``batch_size`` of them at a time; photos as RGB in 0..1."""
    loader = LoadChannels(**config['loader']) if config.get('loader') else None
    if isinstance(images, Tensor):
        _check_tensor(images, loader)
        yield from images.float().split(batch_size)
        return
    if isinstance(images, (str, Path)):
        images = list_images(images, EXTENSIONS if loader else None)
    elif isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim in (2, 3)):
        images = [images]
    elif isinstance(images, Sequence) and all(isinstance(image, (str, Path)) for image in images):
        images = list_images(images, EXTENSIONS if loader else None)
    try:
        waiting = iter(images)
    except TypeError as error:
        raise InputError(
            f'images must be files, folders, PIL images, arrays or a tensor, got {images!r}'
        ) from error
    size_hw = config['input_size'][1:]
    read = partial(_read_channels, loader=loader) if loader else _read
    while batch := [read(image, size_hw=size_hw) for image in islice(waiting, batch_size)]:
        yield torch.stack(batch)


def _check_tensor(images: Tensor, loader: LoadChannels | None) -> None:
    channels = loader.channels if loader else 3
    shaped = (
        images.ndim == 4 and images.shape[1] == channels and len(images) > 0 and images.is_floating_point()
    )
    if shaped and (images.isfinite() if loader else (images >= 0) & (images <= 1)).all():
        return
    wanted = f'(B, {channels}, H, W), finite floats' if loader else 'RGB (B, 3, H, W), float in 0..1'
    raise InputError(f'images must be {wanted}, got {images.dtype} {tuple(images.shape)}')


def _read_channels(
    image: str | Path | Image.Image | np.ndarray, size_hw: tuple[int, int], loader: LoadChannels
) -> Tensor:
    """One image that is not a photo as (C, H, W), scaled as the loader scales it."""
    if isinstance(image, (str, Path)):
        return read_channels(loader, image, size_hw)
    if not isinstance(image, (Image.Image, np.ndarray)):
        raise InputError(f'an image must be a path, a PIL image or an array, got a {type(image).__name__}')
    return cover(loader.scale(np.asarray(image)), size_hw)


def _read(image: str | Path | Image.Image | np.ndarray, size_hw: tuple[int, int]) -> Tensor:
    """One image as RGB (3, H, W) in 0..1."""
    if isinstance(image, (str, Path)):
        return read_image(Path(image), size_hw)
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert('RGB'))
    if not isinstance(image, np.ndarray):
        raise InputError(f'an image must be a path, a PIL image or an array, got a {type(image).__name__}')
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f'an array must be RGB, uint8 (H, W, 3), got {image.dtype} {image.shape}')
    return fit_image(image, size_hw)


def _pooled(feature: Tensor, backbone: nn.Module) -> Tensor:
    """The mean over positions, (B, C), of a map (B, C, h, w) or of tokens (B, n + h * w, C)."""
    if feature.ndim == 4:
        return feature.mean(dim=(2, 3))
    if feature.ndim == 3:
        extra = getattr(backbone, 'num_extra_tokens', getattr(backbone, 'num_prefix_tokens', 0))
        return feature[:, extra:].mean(dim=1)
    return feature


def _normalise(model: nn.Module, img_b3hw: Tensor) -> Tensor:
    """Images (b, 3, H, W) in 0..1 as the model wants them, on its device."""
    config, img_b3hw = _config_of(model), img_b3hw.to(next(model.parameters()).device)
    mean, std = (img_b3hw.new_tensor(config[key])[:, None, None] for key in ('mean', 'std'))
    return (img_b3hw - mean) / std


@torch.no_grad()
def _forward(backbone: nn.Module, layers: Sequence[str], img_b3hw: Tensor) -> tuple[Tensor, ...]:
    """The outputs of the layers, or of the backbone if there are no layers, on the CPU."""
    outputs = {}

    def keep(name: str, _module: nn.Module, _args: tuple, output: object) -> None:
        # A copy: the next module may work in place, as ReLU behind BatchNorm does.
        outputs[name] = output.clone() if isinstance(output, Tensor) else output

    hooks = [backbone.get_submodule(name).register_forward_hook(partial(keep, name)) for name in layers]
    try:
        with evaluating(backbone):
            own = backbone(img_b3hw)
    finally:
        for hook in hooks:
            hook.remove()
    if not layers:
        return tuple(output.cpu() for output in (own if isinstance(own, (tuple, list)) else (own,)))
    for name in layers:
        if not isinstance(outputs.get(name), Tensor):
            raise InputError(
                f'layers: the output of {name} is a {type(outputs[name]).__name__}, not a tensor'
                if name in outputs
                else f'layers: {name} takes no part in the forward pass'
            )
    return tuple(outputs[name].cpu() for name in layers)
