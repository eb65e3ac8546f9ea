"""Checks that the model and all data sets have the same classes."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from a2mim_mm.checkpoints.load import unwrap
from a2mim_mm.errors import InputError, first_names
from a2mim_mm.registry import HOOKS


@HOOKS.register_module()
class ClassesHook(Hook):
    """Refuses data whose classes are not those of the model, in number or in name if the names are known.

    A label that the head does not know makes a CUDA kernel fail. If training and validation have different
    folders, the same label means different classes in them, and nothing fails.

    Raises:
        ValueError: Before the first step, if the classes differ. The message names them.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.trained_on: Sequence[str] | None = None

    def after_load_checkpoint(self, _runner: Runner, checkpoint: dict) -> None:
        """Remember the classes that the checkpoint was trained on."""
        meta = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
        self.trained_on = meta.get('classes')

    def before_train(self, runner: Runner) -> None:
        """Compare the training data to the head, and the validation data to the training data."""
        classes = _classes(runner.train_dataloader)
        _compare_to_head(runner, classes, 'train_dataloader')
        if runner.val_loop is not None:
            compare_classes(classes, _classes(runner.val_dataloader), 'train_dataloader', 'val_dataloader')

    def before_test(self, runner: Runner) -> None:
        """Compare the test data to the head, and to the classes that the checkpoint was trained on."""
        classes = _classes(runner.test_dataloader)
        _compare_to_head(runner, classes, 'test_dataloader')
        if self.trained_on is not None:
            compare_classes(self.trained_on, classes, 'the checkpoint', 'test_dataloader')


def compare_classes(classes: Sequence[str], others: Sequence[str], owner: str, other: str) -> None:
    """Check that two lists of classes are the same.

    Raises:
        ValueError: If they differ. The message names the owners and the classes that only one has.
    """
    differing = sorted(set(classes) ^ set(others))
    if differing:
        raise InputError(
            f'{owner} has {len(classes)} classes and {other} {len(others)}; only one of them has '
            f'{first_names(differing)} (a folder without images does not count as a class)'
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
                'model.head.num_classes and data_preprocessor.num_classes, or correct the folders (an empty '
                'folder does not count as a class)'
            )
