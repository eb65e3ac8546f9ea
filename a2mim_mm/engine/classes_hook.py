"""Labels mean what the model takes them for: its classes, and those of all data sets, are the same."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from a2mim_mm.registry import HOOKS


@HOOKS.register_module()
class ClassesHook(Hook):
    """Refuses data whose classes are not the model's in number, or differ between training and validation.

    A label that the head does not have ends in an error of a CUDA kernel; folders that differ between
    training and validation number their classes differently, in silence.

    Raises:
        ValueError: Before the first step, if they do not agree; names the classes.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Compare training, validation and head."""
        classes = runner.train_dataloader.dataset.metainfo['classes']
        _compare_to_head(runner, classes, 'train_dataloader')
        if runner.val_loop is not None:
            others = runner.val_dataloader.dataset.metainfo['classes']
            differing = sorted(set(classes) ^ set(others))
            if differing:
                raise ValueError(
                    f'train_dataloader has {len(classes)} classes and val_dataloader {len(others)}; only one '
                    f'of them has {", ".join(differing[:5])}' + (', ...' if len(differing) > 5 else '')
                )
            if classes != others:
                raise ValueError('train_dataloader and val_dataloader number the same classes differently')

    def before_test(self, runner: Runner) -> None:
        """Compare test data and head."""
        _compare_to_head(runner, runner.test_dataloader.dataset.metainfo['classes'], 'test_dataloader')


def _compare_to_head(runner: Runner, classes: tuple[str, ...], loader: str) -> None:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if len(classes) != model.head.num_classes:
        names = ', '.join(classes[:5]) + (', ...' if len(classes) > 5 else '')
        raise ValueError(
            f'{loader} has {len(classes)} classes ({names}), the model {model.head.num_classes}: set '
            'model.head.num_classes and data_preprocessor.num_classes'
        )
