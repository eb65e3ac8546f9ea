"""Labels mean what the model takes them for: its classes, and those of all data sets, are the same."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from a2mim_mm.checkpoints.load import unwrap
from a2mim_mm.errors import InputError, first_names
from a2mim_mm.registry import HOOKS


@HOOKS.register_module()
class ClassesHook(Hook):
    """Refuses data whose classes are not the model's: in number, and in name where the names are known.

    A label that the head does not have ends in an error of a CUDA kernel; folders that differ between
    training and validation or test number their classes differently, in silence.

    Raises:
        ValueError: Before the first step, if they do not agree; names the classes.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.trained_on: Sequence[str] | None = None

    def after_load_checkpoint(self, _runner: Runner, checkpoint: dict) -> None:
        """Remember the classes that the checkpoint was trained on."""
        meta = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
        self.trained_on = meta.get('classes')

    def before_train(self, runner: Runner) -> None:
        """Compare training data to the head, and validation data to them."""
        classes = _classes(runner.train_dataloader)
        _compare_to_head(runner, classes, 'train_dataloader')
        if runner.val_loop is not None:
            compare_classes(classes, _classes(runner.val_dataloader), 'train_dataloader', 'val_dataloader')

    def before_test(self, runner: Runner) -> None:
        """Compare test data to the head, and to what the checkpoint was trained on."""
        classes = _classes(runner.test_dataloader)
        _compare_to_head(runner, classes, 'test_dataloader')
        if self.trained_on is not None:
            compare_classes(self.trained_on, classes, 'the checkpoint', 'test_dataloader')


def compare_classes(classes: Sequence[str], others: Sequence[str], owner: str, other: str) -> None:
    """Check that two lists of classes are the same.

    Raises:
        ValueError: If they are not; names the classes that only one has, and the owners of the lists.
    """
    differing = sorted(set(classes) ^ set(others))
    if differing:
        raise InputError(
            f'{owner} has {len(classes)} classes and {other} {len(others)}; only one of them has '
            f'{first_names(differing)} (a folder without images is no class)'
        )
    if tuple(classes) != tuple(others):
        raise InputError(f'{owner} and {other} number the same classes differently')


def _classes(loader: DataLoader) -> tuple[str, ...]:
    return loader.dataset.metainfo['classes']


def _compare_to_head(runner: Runner, classes: Sequence[str], loader: str) -> None:
    model = unwrap(runner.model)
    numbers = {
        'model.head': model.head.num_classes,
        'data_preprocessor': getattr(model.data_preprocessor, 'num_classes', None),  # of the mixed labels
    }
    for owner, number in numbers.items():
        if number not in (None, len(classes)):
            raise InputError(
                f'{loader} has {len(classes)} classes ({first_names(classes)}), {owner} {number}: set '
                'model.head.num_classes and data_preprocessor.num_classes, or mend the folders (an empty one '
                'is no class)'
            )
