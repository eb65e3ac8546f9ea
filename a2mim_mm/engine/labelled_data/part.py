"""One data set of a config, as the checks see it."""

from dataclasses import dataclass

from mmengine.config import Config
from mmengine.dataset import BaseDataset

from a2mim_mm.data.listing import absent_files, endings, endings_text
from a2mim_mm.errors import InputError


@dataclass(frozen=True)
class Part:
    """A data set and its place in a config.

    Attributes:
        cfg: The whole config.
        split: 'train', 'val' or 'test'.
        dataset: The data set, built without its list of samples.
        step: The step of its pipeline that loads annotations, if any.
    """

    cfg: Config
    split: str
    dataset: BaseDataset
    step: dict | None

    @property
    def loader(self) -> str:
        """The name of its loader in the config."""
        return f'{self.split}_dataloader'

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its classes; empty if it has none."""
        return tuple(self.dataset.metainfo.get('classes') or ())

    def folder(self, kind: str) -> str:
        """The folder that ``data_prefix`` gives for one kind of files."""
        return self.dataset.data_prefix.get(kind) or ''

    def require_files(self, paths: list[str], folder: str, what: str) -> None:
        """Check that listed files exist, if they are on a disk of this machine."""
        absent = absent_files(paths) if self.dataset.backend_args is None else []
        if absent:
            raise InputError(
                f'{len(absent)} of {len(paths)} {what} do not exist, such as {absent[0]}; {folder} holds '
                f'{endings_text(endings(folder)) or "no files"}: correct data_root, data_prefix, names or '
                'endings'
            )
