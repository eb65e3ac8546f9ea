"""Names and counts images that cannot be read, and stops a training that has too many of them."""

from mmengine.dist import all_gather_object, barrier, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim_mm.errors import InputError, UserError
from a2mim_mm.registry import HOOKS


class TooManyUnreadableImagesError(UserError):
    """More images are unreadable than the limit allows."""


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Names and counts unreadable images, and stops training if there are too many.

    The data set replaces an image that it cannot read by another one, and adds ``path: reason`` to the
    ``unreadable`` list of the data sample. This hook collects the notes of all ranks, so that all ranks stop
    together.

    Args:
        max_share: Share of the data set that may be unreadable.
        min_count: Number of images that may be unreadable, even in a small data set.
        interval: Iterations between two exchanges between ranks. A single process reports at once.

    Raises:
        ValueError: If ``max_share`` is outside 0..1, ``min_count`` negative or ``interval`` below 1.
    """

    def __init__(self, max_share: float = 0.001, min_count: int = 10, interval: int = 50) -> None:
        if not 0 <= max_share <= 1:
            raise InputError(f'max_share must be in 0..1, got {max_share}')
        if min_count < 0:
            raise InputError(f'min_count must not be negative, got {min_count}')
        if interval < 1:
            raise InputError(f'interval must be at least 1, got {interval}')
        self.max_share = max_share
        self.min_count = min_count
        self.interval = interval
        self._pending: set[str] = set()
        self._known: set[str] = set()

    def after_train_iter(self, runner: Runner, data_batch: dict | None = None, **_) -> None:
        """Collect the notes of a batch."""
        for sample in data_batch['data_samples']:
            self._pending.update(sample.get('unreadable', ()))
        if get_world_size() == 1 or self.every_n_train_iters(runner, self.interval):
            self._report(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Exchange the rest before the checkpoint of the epoch is written."""
        self._report(runner)

    def after_train(self, runner: Runner) -> None:
        """Exchange the rest at the end of a training without epochs."""
        self._report(runner)

    def _report(self, runner: Runner) -> None:
        """Log the images that are new on any rank.

        Raises:
            TooManyUnreadableImagesError: On every rank, if they exceed the limit.
        """
        if get_world_size() == 1 and not self._pending:
            return
        gathered = all_gather_object(sorted(self._pending))
        self._pending.clear()
        new = sorted(set().union(*gathered) - self._known)
        if not new:
            return
        self._known.update(new)
        from a2mim_mm.data.dataset import files_of  # imports mmpretrain

        dataset = runner.train_dataloader.dataset
        total = sum(len(one) // one.repeats for one in files_of(dataset)) or len(dataset)
        limit = max(self.min_count, int(self.max_share * total))
        runner.logger.warning(
            f'{len(new)} unreadable images replaced by others ({len(self._known)} of {total} so far, '
            f'training stops beyond {limit}):\n    ' + '\n    '.join(new)
        )
        if len(self._known) > limit:
            message = (
                f'{len(self._known)} of {total} images are unreadable, more than the {limit} that are '
                f'allowed (max_share={self.max_share}, min_count={self.min_count}). The log names them: '
                'remove or repair them and continue with --resume, or raise these limits'
            )
            if runner.rank == 0:
                runner.logger.error(message)
            barrier()  # the first rank that fails ends the others, so rank 0 has to write its log before
            raise TooManyUnreadableImagesError(message)
