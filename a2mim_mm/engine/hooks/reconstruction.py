"""Draws what the model reconstructs during training."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from a2mim_mm.checkpoints.load import unwrap
from a2mim_mm.data.channels import LoadChannels, find_loader, read_channels
from a2mim_mm.data.dataset import files_of
from a2mim_mm.data.reading import list_images, read_image, spread
from a2mim_mm.drawing import draw_grid, to_rgb, write_png
from a2mim_mm.errors import InputError
from a2mim_mm.models.reconstruct import draw_mask, reconstruct, reconstruct_channels
from a2mim_mm.registry import HOOKS


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Draws original | masked | prediction | composite, always for the same images with the same masks.

    A grid goes to ``reconstructions`` in the work directory and to every back-end of the visualizer. Drawing
    does not change the mode, gradients or random states of the training.

    Args:
        images: A folder of photos or a list of image files; None takes images of the training set, spread
            evenly over its folders.
        count: Number of images. Each has a row.
        interval: Epochs between two grids. The end of training always gets one.
        seed: Seed of the masks.
        channels: Which channels are drawn if the images are not photos; see :func:`.drawing.to_rgb`.
        value_range: What is drawn black and white, likewise.

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
        channels: Sequence[int] | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        if count < 1:
            raise InputError(f'count must be at least 1, got {count}')
        if interval < 1:
            raise InputError(f'interval must be at least 1, got {interval}')
        self.paths = None if images is None else spread(list_images(images), count)
        self.count = count
        self.interval = interval
        self.seed = seed
        self.channels = channels
        self.value_range = value_range
        self.loader: LoadChannels | None = None  # of images that are not photos
        self._img_bchw: Tensor | None = None
        self._drawn_iter = -1

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Read the images.

        Raises:
            ValueError: If the model is not an A2MIM, or the images are not photos and not of LoadChannels.
        """
        model = unwrap(runner.model)
        if not hasattr(model, 'predict_pixels'):
            raise InputError(f'ReconstructionHook needs an A2MIM, not a {type(model).__name__}')
        dataset = runner.train_dataloader.dataset
        # A data set with repeats lists all its images several times, in the same order.
        indices = range(len(dataset) // getattr(dataset, 'repeats', 1))
        img_bchw = torch.stack([dataset[index]['inputs'] for index in spread(indices, self.count)])
        self.loader = next(filter(None, map(find_loader, files_of(dataset))), None)
        if self.loader is None:
            img_bchw = _rgb(img_bchw)
        if self.paths is not None:
            img_bchw = torch.stack([self._read(path, tuple(img_bchw.shape[2:])) for path in self.paths])
        self._img_bchw = img_bchw

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

    def _read(self, path: Path, size_hw: tuple[int, int]) -> Tensor:
        """A given image, as those of the training are."""
        return read_channels(self.loader, path, size_hw) if self.loader else read_image(path, size_hw)

    def _draw(self, runner: Runner, epoch: int, step: int) -> None:
        model = unwrap(runner.model)
        device = next(model.parameters()).device
        mask_bhw = draw_mask(model, self._img_bchw, self.seed)
        draw = reconstruct_channels if self.loader else reconstruct
        pictures = draw(model, self._img_bchw.to(device), mask_bhw)
        shown = ''
        if self.loader:
            pictures, shown = to_rgb(pictures, self.channels, self.value_range)
        caption = ', '.join(filter(None, (f'epoch {epoch}', shown)))
        grid = draw_grid(pictures, max_rows=self.count, caption=caption)
        path = Path(runner.work_dir) / 'reconstructions' / f'epoch_{epoch:04d}.png'
        write_png(path, grid)
        runner.visualizer.add_image('reconstructions', grid, step=step)
        runner.logger.info(f'Reconstructions drawn: {path}')
        self._drawn_iter = step


def _rgb(img_b3hw: Tensor) -> Tensor:
    """Packed photos, uint8 BGR (B, 3, H, W), as RGB in 0..1."""
    if img_b3hw.dtype != torch.uint8 or img_b3hw.shape[1] != 3:
        raise InputError(
            f'ReconstructionHook draws photos, but the images have {img_b3hw.shape[1]} channels of type '
            f'{img_b3hw.dtype}: load them by a2mim_mm.LoadChannels, or leave the hook out of custom_hooks'
        )
    return img_b3hw.flip(1).float() / 255
