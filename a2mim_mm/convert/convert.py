"""Converts a file to a file: read, find the encoder, express it, write it, prove it, report."""

import pickle
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from a2mim_mm.backbones.vit import A2MIMViT
from a2mim_mm.checkpoints.read import load_checkpoint_file, read_array_pickle
from a2mim_mm.errors import InputError
from a2mim_mm.files import write_json
from a2mim_mm.libraries import LibraryMissing

from .detect import Found, detect
from .encoder import ConversionError, Encoder, resized
from .families.vit import arch_of
from .naming import Hints
from .pretraining import Pretraining
from .report import log_found, log_report, make_report
from .targets import (
    DRAFT,
    Detectron2,
    HuggingFace,
    Onnx,
    OpenMMLab,
    Target,
    Timm,
    Torchvision,
)
from .trained import find
from .verify import compare, features_of, of_pivot

TARGETS: dict[str, Target] = {
    'a2mim': Pretraining(),
    'mmpretrain': OpenMMLab('mmpretrain'),
    'mmdet': OpenMMLab('mmdet', 'backbone.'),
    'mmseg': OpenMMLab('mmseg', 'backbone.'),
    'timm': Timm(),
    'torchvision': Torchvision(),
    'detectron2': Detectron2(),
    'huggingface': HuggingFace(),
    'onnx': Onnx(),
}
_MOCO_V3_SMALL = dict(embed_dims=384, num_layers=12, num_heads=12, feedforward_channels=1536)
ARCHES = {**A2MIMViT.arch_zoo, 'mocov3-small': _MOCO_V3_SMALL}


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    to: str,
    origin: str = 'auto',
    *,
    arch: str | None = None,
    entry: str | None = None,
    img_size: int | None = None,
    timm_model: str | None = None,
    verify: bool = True,
    trust: bool = False,
    log: Callable[[str], None] = print,
) -> dict:
    """Convert the encoder in a checkpoint to another format. ``docs/checkpoints.md`` lists the formats.

    The networks of source and target are built from the two files. The same images go through both, in
    float64 (ONNX: float32). If the outputs differ, or anything else goes wrong, nothing is written.

    Args:
        source: ``.pth``, ``.safetensors`` or detectron2's ``.pkl``.
        target: The file to write, or the folder for ``huggingface``. Its suffix chooses ``.safetensors`` or
            ``.pth``. A file that exists is replaced.
        to: A name of ``TARGETS``.
        origin: A name of ``ORIGINS``; ``'auto'`` finds it by the names in the file.
        arch: ``'heads=N'`` or the name of a ViT of mmpretrain, for weights that do not show their heads.
        entry: Which of several state dicts in the file, such as ``'ema'``.
        img_size: Resample position embedding and bias tables to this image size, in pixels.
        timm_model: Name of the timm model to write for; by default one that can hold the encoder.
        verify: Whether to prove the conversion. Without the proof, no other library is needed.
        trust: Unpickle whatever the source holds, which runs code from it.
        log: Gets lines about what was found, left out and measured.

    Returns:
        The report. It is also written to ``TARGET.report.json``.

    Raises:
        ConversionError: If the format of the source is not known or ambiguous, the target cannot hold the
            encoder, or the networks differ.
        CheckpointError: If the source cannot be read, or reading it would run code.
        ValueError: If an argument has a value that is not allowed.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    kind = _check_arguments(source, target, to, timm_model)
    checkpoint = _read(source, trust)
    if origin == 'auto' and entry is None:
        found = find(checkpoint, str(source), to, _hints(arch))
    else:
        found = detect(checkpoint, str(source), origin, _hints(arch), entry)
    del checkpoint
    _check_arch(found.encoder, arch)
    log_found(found, log)

    kind.express(found.encoder, found.mean_std, timm_model)  # refuse now what would be refused in the end
    encoder, resampled, differences = found.encoder, [], {}
    expected = _features_of_source(found, kind.dtype) if verify else None
    if img_size is not None:
        encoder, resampled = resized(found.encoder, img_size)
        if verify:  # at the source's own size; then the target must equal the resampled pivot
            pivot = features_of(of_pivot(found.encoder), found.encoder, kind.dtype)
            differences['source to pivot'] = compare(expected, pivot, kind.tolerance)
            expected = features_of(of_pivot(encoder), encoder, kind.dtype)
    expression = replace(
        kind.express(encoder, found.mean_std, timm_model),
        input_hw=(img_size, img_size) if img_size is not None else found.input_hw,
        rest=found.rest,
        source=f'An image encoder from {source.name} ({found.origin.title}), converted by a2mim_mm',
    )
    draft = target.with_name(DRAFT + target.name)
    _remove(kind, draft)  # what an earlier run left when it was killed
    try:
        kind.write(expression, draft)
        if verify:
            written = features_of(kind.read_back(expression, draft), encoder, kind.dtype)
            sides = 'source to target' if img_size is None else 'resampled pivot to target'
            differences[sides] = compare(expected, written, kind.tolerance)
        report = make_report(source, target, to, found, expression, encoder, resampled, differences, verify)
        _move(kind, draft, target)
    finally:
        _remove(kind, draft)
    write_json(target.with_name(f'{target.name}.report.json'), report)
    log_report(report, log)
    return report


def _check_arguments(source: Path, target: Path, to: str, timm_model: str | None) -> Target:
    """Check the arguments; returns the kind of file to write."""
    if to not in TARGETS:
        raise InputError(f'there is no format {to!r} to write; known: {", ".join(TARGETS)}')
    kind = TARGETS[to]
    if timm_model is not None and to not in ('timm', 'huggingface'):
        raise InputError(f'--timm-model is for timm and huggingface, not for {to}')
    same = source.exists() and target.exists() and target.samefile(source)
    if same or target.resolve() == source.resolve():
        raise InputError(f'{target} is the source itself')
    if kind.suffixes and target.suffix not in kind.suffixes:
        raise InputError(f'{to} is written to {" or ".join(kind.suffixes)}, got {target.name!r}')
    if kind.suffixes and target.is_dir():
        raise InputError(f'{target} is a folder')
    if not kind.suffixes and (target.is_file() or target.is_dir() and any(target.iterdir())):
        raise InputError(f'{to} is written to a new or empty folder, which {target} is not')
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'{target} cannot be written: {error}') from error
    return kind


def _read(source: Path, trust: bool) -> dict:
    if trust and source.is_file() and source.suffix != '.safetensors':
        warnings.warn(f'{source} is unpickled: any code that it holds runs now', stacklevel=3)
        if source.suffix == '.pkl':
            content = pickle.loads(source.read_bytes(), encoding='latin1')
        else:
            content = torch.load(source, map_location='cpu', weights_only=False)
        if not isinstance(content, dict):
            raise ConversionError(f'{source} holds a {type(content).__name__}, not a dict of weights')
        return content
    if source.suffix == '.pkl' and source.is_file():
        return read_array_pickle(source)
    return load_checkpoint_file(source)


def _hints(arch: str | None) -> Hints | None:
    if arch is None:
        return None
    number = re.fullmatch(r'heads=([1-9][0-9]*)', arch)
    if number:
        return Hints(heads=int(number[1]))
    if arch in ARCHES:
        return Hints(heads=ARCHES[arch]['num_heads'])
    raise InputError(f'there is no ViT {arch!r}; known: heads=N, {", ".join(ARCHES)}')


def _check_arch(encoder: Encoder, arch: str | None) -> None:
    """Check the encoder against the sizes that the user named."""
    if arch is None:
        return
    if encoder.family != 'A2MIMViT':
        raise ConversionError(f'--arch {arch} is for a ViT, but the source holds a {encoder.family}')
    expected, sizes = ARCHES.get(arch), arch_of(encoder.cfg)
    if expected is not None and any(sizes[key] != expected[key] for key in sizes):
        raise ConversionError(f'--arch {arch} is {expected}, but the source is {sizes}')


def _features_of_source(found: Found, dtype: torch.dtype) -> Tensor:
    """Features of the example images, by the source's own network."""
    try:
        return features_of(found.naming.peer(found.encoder.cfg, found.weights), found.encoder, dtype)
    except LibraryMissing as error:
        raise ConversionError(
            f'the network of {found.naming.name} cannot be built here, so the conversion cannot be proved '
            f'({error}): --no-verify writes without proof'
        ) from error


def _move(kind: Target, draft: Path, target: Path) -> None:
    for part, whole in zip(kind.beside(draft), kind.beside(target), strict=True):
        part.replace(whole)
    if target.is_dir():
        target.rmdir()
    draft.replace(target)


def _remove(kind: Target, draft: Path) -> None:
    for path in (draft, *kind.beside(draft)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
