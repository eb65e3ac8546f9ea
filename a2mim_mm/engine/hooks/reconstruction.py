"""Draws what the model reconstructs during training."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from a2mim_mm.checkpoints.load import unwrap
from a2mim_mm.data.reading import list_images, read_image, spread
from a2mim_mm.drawing import draw_grid, write_png
from a2mim_mm.errors import InputError
from a2mim_mm.models.reconstruct import draw_mask, reconstruct
from a2mim_mm.registry import HOOKS


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Draws original | masked | prediction | composite, always for the same images with the same masks.

    A grid goes to ``reconstructions`` in the work directory and to every back-end of the visualizer. Drawing
    does not change the mode, gradients or random states of the training.

    Args:
        images: A folder or a list of image files; None takes images of the training set, spread
            evenly over its folders.
        count: Number of images. Each has a row.
        interval: Epochs between two grids. The end of training always gets one.
        seed: Seed of the masks.

    Raises:
        ValueError: If ``count`` or ``interval`` is below 1.
        FileNotFoundError: If an image does not exist.
    """

    priority = 'LOW'

    def __init__(
        self,
        images: str | Sequence[str] | None = None,
        count: int = 8,
        interval: int = 1,
        seed: int = 0,
    ) -> None:
        if count < 1:
            raise InputError(f'count must be at least 1, got {count}')
        if interval < 1:
            raise InputError(f'interval must be at least 1, got {interval}')
        self.paths = None if images is None else spread(list_images(images), count)
        self.count = count
        self.interval = interval
        self.seed = seed
        self._img_b3hw: Tensor | None = None
        self._drawn_iter = -1

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Read the images.

        Raises:
            ValueError: If the model is not an A2MIM, or the images are not RGB of 8 bits.
        """
        model = unwrap(runner.model)
        if not hasattr(model, 'predict_pixels'):
            raise InputError(f'ReconstructionHook needs an A2MIM, not a {type(model).__name__}')
        dataset = runner.train_dataloader.dataset
        # A data set with repeats lists all its images several times, in the same order.
        indices = range(len(dataset) // getattr(dataset, 'repeats', 1))
        samples = [dataset[index] for index in spread(indices, self.count)]
        image = samples[0]['inputs']
        if image.dtype != torch.uint8 or len(image) != 3:
            raise InputError(
                f'ReconstructionHook draws photos in RGB, but the images have {len(image)} channels of type '
                f'{image.dtype}: leave it out of custom_hooks'
            )
        img_b3hw = torch.stack([_rgb(sample) for sample in samples])
        if self.paths is not None:
            img_b3hw = torch.stack([read_image(path, tuple(img_b3hw.shape[2:])) for path in self.paths])
        self._img_b3hw = img_b3hw

    @master_only
    def after_train_epoch(self, runner: Runner) -> None:
        """Draw every ``interval`` epochs."""
        if self.every_n_epochs(runner, self.interval):
            self._draw(runner, runner.epoch + 1, runner.iter)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Draw the result, unless the last epoch has just drawn it."""
        if self._drawn_iter != runner.iter:
            self._draw(runner, runner.epoch, runner.iter)

    def _draw(self, runner: Runner, epoch: int, step: int) -> None:
        model = unwrap(runner.model)
        device = next(model.parameters()).device
        mask_bhw = draw_mask(model, self._img_b3hw, self.seed)
        pictures = reconstruct(model, self._img_b3hw.to(device), mask_bhw)
        grid = draw_grid(pictures, max_rows=self.count, caption=f'epoch {epoch}')
        path = Path(runner.work_dir) / 'reconstructions' / f'epoch_{epoch:04d}.png'
        write_png(path, grid)
        runner.visualizer.add_image('reconstructions', grid, step=step)
        runner.logger.info(f'Reconstructions drawn: {path}')
        self._drawn_iter = step


def _rgb(sample: dict) -> Tensor:
    """The image of a packed sample, uint8 BGR (3, H, W), as RGB in 0..1."""
    return sample['inputs'].flip(0).float() / 255
