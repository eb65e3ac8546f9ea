"""A folder of images, with a sub-folder for each class."""

import os

from a2mim_mm.errors import InputError
from a2mim_mm.registry import DATASETS

from .dataset import UnlabelledImages


@DATASETS.register_module()
class LabelledImages(UnlabelledImages):
    """Images with one folder for each class, as ImageNet and torchvision's ``ImageFolder`` have them.

    A class is a folder directly below ``data_root`` that holds an image at any depth. Classes are numbered in
    the order of their names. Everything else is as in :class:`UnlabelledImages`. The replacement for a
    damaged image may be of any class, and brings its label.

    The images of a class follow each other, so ``indices=list(range(0, N, 10))`` is a tenth of every class.

    Args:
        **kwargs: Of :class:`UnlabelledImages`.

    Raises:
        ValueError: If an image lies directly in ``data_root`` or outside of it.
    """

    def load_data_list(self) -> list[dict]:
        """``dict(img_path=..., gt_label=...)`` for all images; sets ``metainfo['classes']``."""
        infos = super().load_data_list()
        names = [self._class_of(info['img_path']) for info in infos]
        classes = sorted(set(names))
        self._metainfo['classes'] = tuple(classes)
        labels = {name: label for label, name in enumerate(classes)}
        return [dict(info, gt_label=labels[name]) for info, name in zip(infos, names, strict=True)]

    def _class_of(self, path: str) -> str:
        name, _, rest = os.path.relpath(path, self.data_root).partition(os.sep)
        if not rest or name == os.pardir:
            raise InputError(
                f'{path} is not in the folder of a class: {self.data_root!r} needs a folder for each class'
            )
        return name
