"""The images of an analysis, the same for all networks."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from a2mim_mm.data import LabelledImages, UnlabelledImages
from a2mim_mm.engine.hooks.classes import compare_classes
from a2mim_mm.errors import InputError, first_names

from .networks import Subject


@dataclass(frozen=True)
class Photos:
    """Images of a folder.

    Attributes:
        folder: The folder; with labels, it has a sub-folder for each class.
        indices: Which of its images, ascending.
        classes: Names of the classes; None without labels.
        labels: Class of each image, int64; None without labels.
        digest: SHA-256 of the files, with their names.
    """

    folder: str
    indices: tuple[int, ...]
    classes: tuple[str, ...] | None
    labels: Tensor | None
    digest: str

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, subject: Subject, batch_size: int) -> Iterator[Tensor]:
        """All images, in order, normalised, on the device of the network.

        Raises:
            ValueError: If the pipeline of the network gives images of different sizes, or not uint8.
            RuntimeError: If an image is unreadable; names it.
        """
        kind = UnlabelledImages if self.classes is None else LabelledImages
        dataset = kind(self.folder, pipeline=subject.pipeline, indices=list(self.indices), max_refetch=0)
        kinds = set()
        for start in range(0, len(self), batch_size):
            images = [dataset[index]['inputs'] for index in range(start, min(start + batch_size, len(self)))]
            kinds |= {(str(image.dtype), tuple(image.shape)) for image in images}
            if len(kinds) > 1 or images[0].dtype != torch.uint8:
                found = ', '.join(f'{dtype} {shape}' for dtype, shape in sorted(kinds)[:3])
                raise InputError(
                    f'the test pipeline has to give uint8 images of one size, as a crop does, not {found}'
                )
            yield subject.normalise(torch.stack(images))

    @torch.no_grad()
    def check(self, subject: Subject) -> None:
        """Check that the labels of the images are the classes of the network.

        If the checkpoint knows any of the folders' names, all names are compared.

        Raises:
            ValueError: If the classes differ, in number or in name.
        """
        known = subject.classes or ()
        if {*known} & {*self.classes}:
            compare_classes(known, self.classes, 'the checkpoint', f'--images {self.folder}')
        elif known:  # such as "tench, Tinca tinca" for n01440764
            print(
                f'the checkpoint calls its classes {first_names(known)}, --images calls them '
                f'{first_names(self.classes)}: the analysis takes them for the same, in this order'
            )
        logits = subject.network(next(self.batches(subject, batch_size=1)))
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if shape != (1, len(self.classes)):
            raise InputError(
                f'--images {self.folder} has {len(self.classes)} classes (folders that hold an image), but '
                f'the network gives {shape} for an image, not (1, {len(self.classes)})'
            )


def choose_photos(folder: str, count: int | None, seed: int, labelled: bool) -> Photos:
    """Draw images of a folder; all of them if it has at most ``count``.

    Args:
        folder: The folder; with ``labelled``, it has a sub-folder for each class.
        count: Number of images to draw at most, without replacement; None for all.
        seed: Seed of the draw.
        labelled: Whether the classes matter.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no image.
        ValueError: If an image is outside the folders of the classes.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'--images: there is no folder {folder}')
    dataset = (LabelledImages if labelled else UnlabelledImages)(folder)
    drawn = np.random.default_rng(seed).permutation(len(dataset))[:count]
    indices = sorted(drawn.tolist())
    infos = [dataset.get_data_info(index) for index in indices]
    digest = hashlib.sha256()
    for info in infos:
        path = Path(info['img_path'])
        digest.update(os.fsencode(os.path.relpath(path, folder)))
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return Photos(
        folder,
        tuple(indices),
        tuple(dataset.metainfo['classes']) if labelled else None,
        torch.tensor([info['gt_label'] for info in infos]) if labelled else None,
        digest.hexdigest(),
    )
