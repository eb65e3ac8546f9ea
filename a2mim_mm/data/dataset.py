"""A folder of unlabelled images."""

import codecs
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from PIL import features
from torch.utils.data import DataLoader

from a2mim_mm.errors import InputError
from a2mim_mm.registry import DATASETS

from .decoding import UnreadableImageError
from .randomness import SampleKey, seeded

# What Pillow reads; some only where it was built with the library for it.
EXTENSIONS = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.bmp', '.dib', '.gif', '.tif', '.tiff'),
    *('.ppm', '.pgm', '.pnm'),
    *(('.avif',) if features.check('avif') else ()),
    *(('.jp2',) if features.check('jpg_2000') else ()),
)


@DATASETS.register_module()
class UnlabelledImages(BaseDataset):
    """Every image below a folder, nested or not, in an order that is the same on every machine.

    Links to folders are followed, and each folder is visited once. Hidden files and folders (``._x.jpg``,
    ``.cache``) are left out. Sub-folders have no meaning: ImageNet's classes are just folders.

    All randomness of a sample follows from its index, a :class:`SampleKey` from :class:`KeyedSampler`. A
    plain integer ``i`` means ``SampleKey(0, 0, i)``: that is for evaluation, and :func:`check_keys` refuses
    to train with it. Another image takes the place of one that cannot be read; which one follows from the
    key, too. The results then list "path: reason" of each image that was left out as ``unreadable``.

    Args:
        data_root: The folder.
        pipeline: Transforms, beginning with a :class:`LoadImage`.
        extensions: Endings of the files to take, in upper or lower case.
        ann_file: Text file with the path of an image, relative to ``data_root``, on each line. It saves
            searching the folder. Its own path is relative to ``data_root`` unless it is absolute.
        repeats: How often an epoch has each image, each time with another crop, flip and mask; for folders of
            a few images.
        max_refetch: Number of replacements to try for one unreadable image; 0 where each image counts, as in
            a test.
        indices: As in mmengine's ``BaseDataset``: the number of images to take, or their indices; None for
            all.
        serialize_data: As in ``BaseDataset``: keep the paths in one block of memory that workers share.
        lazy_init: As in ``BaseDataset``: search the folder when it is first needed.

    Raises:
        FileNotFoundError: If the folder or ``ann_file`` does not exist or holds no image.
        NotADirectoryError: If ``data_root`` is a file.
        ValueError: If a line of ``ann_file`` is not the path of an image, or an argument is out of range.
    """

    def __init__(
        self,
        data_root: str,
        pipeline: Sequence[dict | Callable] = (),
        extensions: Sequence[str] = EXTENSIONS,
        ann_file: str = '',
        repeats: int = 1,
        max_refetch: int = 10,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        lazy_init: bool = False,
    ) -> None:
        if isinstance(extensions, str) or not all(ending.startswith('.') for ending in extensions):
            raise InputError(f"extensions must be a list of endings like '.jpg', got {extensions!r}")
        if not isinstance(data_root, (str, os.PathLike)):
            raise InputError(
                f'data_root must be the path of one folder, got {data_root!r} (use ConcatDataset for several '
                "folders, and write digits in quotes, '2024')"
            )
        if repeats < 1:
            raise InputError(f'repeats must be at least 1, got {repeats}')
        if max_refetch < 0:
            raise InputError(f'max_refetch must not be negative, got {max_refetch}')
        self.repeats = repeats
        self.asked_by_key: bool | None = None  # whether the last index was a SampleKey
        self.extensions = tuple(ending.lower() for ending in extensions)
        super().__init__(
            ann_file=ann_file,
            data_root=os.fspath(data_root),
            pipeline=list(pipeline),
            max_refetch=max_refetch,
            indices=indices,
            serialize_data=serialize_data,
            lazy_init=lazy_init,
        )

    def load_data_list(self) -> list[dict]:
        """Paths of all images, as ``dict(img_path=...)``, ``repeats`` times over."""
        folder = self.data_root
        if not os.path.exists(folder):
            raise FileNotFoundError(f'data_root {folder!r} does not exist ({os.path.abspath(folder)})')
        if not os.path.isdir(folder):
            raise NotADirectoryError(f'data_root {folder!r} is a file: give the folder that holds the images')
        paths = self._listed(folder) if self.ann_file else self._found(folder)
        return [dict(img_path=path) for path in paths * self.repeats]

    def __getitem__(self, key: SampleKey | int) -> dict:
        """The sample of a key, prepared by the pipeline.

        Raises:
            ValueError: If the image and all its replacements are unreadable.
        """
        self.asked_by_key = isinstance(key, SampleKey)
        if not self.asked_by_key:
            key = SampleKey(0, 0, range(len(self))[key])
        unreadable = []
        for index in self._candidates(key):
            data_info = self.get_data_info(index)
            data_info['unreadable'] = list(unreadable)
            try:
                with seeded(key):
                    return self.pipeline(data_info)
            except UnreadableImageError as error:
                unreadable.append(f'{printable(data_info["img_path"])}: {error}')
        raise InputError(
            f'{len(unreadable)} images in a row cannot be read, perhaps the whole data set:\n  '
            + '\n  '.join(unreadable)
            if self.max_refetch
            else f'repair or remove an image that cannot be read and is not to be replaced (max_refetch=0): '
            f'{unreadable[0]}'
        )

    def _candidates(self, key: SampleKey) -> Iterator[int]:
        """The index of a key, then those of its replacements."""
        yield key.index
        yield from np.random.default_rng(key.words).integers(len(self), size=self.max_refetch).tolist()

    def _found(self, folder: str) -> list[str]:
        others = Counter()
        paths = []
        for path in _walk(folder):
            ending = os.path.splitext(path)[1].lower()
            if ending in self.extensions:
                paths.append(path)
            else:
                others[ending or 'no extension'] += 1
        kinds = ', '.join(f'{count} x {ending}' for ending, count in others.most_common(5))
        if paths and kinds:
            print_log(
                f'{others.total()} files below {folder} are left out because of their ending: {kinds}. '
                f'{len(paths)} images are taken',
                logger='current',
                level=logging.WARNING,
            )
        if not paths:
            raise FileNotFoundError(
                f'no image below data_root {folder!r}; found there: {kinds or "no file at all"}; '
                f'images end in one of {" ".join(self.extensions)}'
            )
        return sorted(paths)

    def _listed(self, folder: str) -> list[str]:
        if not os.path.isfile(self.ann_file):
            raise FileNotFoundError(f'ann_file {self.ann_file!r} does not exist')
        paths = []
        for number, line in enumerate(_text_of(self.ann_file).splitlines(), 1):
            name = line.strip()
            if not name:
                continue
            if not name.lower().endswith(self.extensions):
                raise InputError(
                    f'line {number} of {self.ann_file!r} must be the path of an image without a label, and '
                    f'end in one of {" ".join(self.extensions)}, got {name!r}'
                )
            paths.append(os.path.join(folder, name))
        if not paths:
            raise FileNotFoundError(f'ann_file {self.ann_file!r} lists no image')
        return paths


def files_of(dataset: object) -> list[UnlabelledImages]:
    """The data sets of this package in one that may wrap them, such as mmengine's ``ConcatDataset``."""
    if isinstance(dataset, UnlabelledImages):
        return [dataset]
    inner = [*getattr(dataset, 'datasets', ()), getattr(dataset, 'dataset', None)]
    return [one for wrapped in inner if wrapped is not None for one in files_of(wrapped)]


def check_keys(loader: DataLoader) -> None:
    """Prepare one sample as the training will, and see that each epoch brings new crops and masks.

    Raises:
        ValueError: If the sampler, or a data set in between, passes plain integers on.
    """
    datasets = files_of(loader.dataset)
    if not datasets:
        return
    index = next(iter(loader.sampler))
    loader.dataset[index]
    if any(dataset.asked_by_key is False for dataset in datasets):
        culprit = type(loader.dataset if isinstance(index, SampleKey) else loader.sampler).__name__
        raise InputError(
            f'train_dataloader: {culprit} passes plain numbers on, so an image would have the same crop and '
            "mask in every epoch. Write sampler=dict(type='a2mim_mm.KeyedSampler', shuffle=True), also for "
            'trainings that count iterations, and wrap data sets by ConcatDataset and RepeatDataset only'
        )


def printable(path: str | os.PathLike) -> str:
    r"""A path for logs and pictures: bytes that are not UTF-8 are written as ``\xff``."""
    return os.fsencode(path).decode('utf-8', 'backslashreplace')


def _text_of(path: str) -> str:
    """A text file in UTF-8, with or without a byte order mark, or in UTF-16 with one."""
    with open(path, 'rb') as file:
        data = file.read()
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode('utf-16', 'replace')
    # Names of files need not be UTF-8: such bytes are kept as Python keeps them in paths.
    return data.removeprefix(codecs.BOM_UTF8).decode('utf-8', 'surrogateescape')


def _walk(folder: str) -> Iterator[str]:
    """Paths of all files below a folder that are not hidden. Links are followed, no folder is visited twice.

    Folders are visited in the order of their names. So a folder with two names is taken by the same one on
    every machine. The type of a file comes with its name, without a call for each file: a million files take
    seconds.
    """
    visited = set()
    pending = [folder]
    while pending:
        current = pending.pop()
        status = os.stat(current)
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        folders = []
        with os.scandir(current) as entries:
            for entry in entries:
                if entry.name.startswith('.'):
                    continue
                try:
                    is_folder = entry.is_dir()
                except OSError:  # a link that leads to itself: as a file it is unreadable, and named
                    is_folder = False
                if is_folder:
                    folders.append(entry.path)
                else:
                    yield entry.path
        pending.extend(sorted(folders, reverse=True))
