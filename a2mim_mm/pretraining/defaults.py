"""What a user need not know: it follows from the images, the network and the machine."""

import math
import os

from a2mim_mm.errors import InputError

_IMAGENET = 1_281_167  # training images of ImageNet-1K
_EPOCHS = 300  # of the paper's ResNet-50 on them (Table A1)
_MOST_EPOCHS = 1600  # of the longest usual pre-trainings by masked images (MAE)
_BATCH = 2048  # Table A1
_STEPS_AN_EPOCH = 16  # at least, where there are enough images for batches of 16
_SMALL_BATCH = 16
_GRIDS = ((6, 8), (4, 16))  # patches along the shorter side: Section 5.1 has 7; and what still makes sense
_WARMUP = 10  # epochs, Table A1
_MOST_WORKERS = 16


def choose_mask_patch(size_hw: tuple[int, int], strides: set[int]) -> int:
    """The side of a mask patch in pixels: 6 to 8 patches along the shorter side of the image.

    It is not smaller than the finest map of the network, for which there may be 4 patches only. Among
    several, it is the one that the largest stride divides, so that positions of the map lie wholly in one,
    and then the larger one.

    Args:
        size_hw: Height and width of the images in pixels.
        strides: Strides of the network's blocks in pixels.

    Raises:
        ValueError: If no patch divides both sides into 4 to 16 patches. Names sizes that would do.
    """
    shorter, finest = min(size_hw), min(strides)
    for fewest, most in _GRIDS:
        sides = [shorter // count for count in range(fewest, most + 1) if shorter % count == 0]
        patches = [patch for patch in sides if max(size_hw) % patch == 0 and patch >= finest]
        if patches:
            return max(patches, key=lambda patch: (_largest_divisor(patch, strides), patch))
    step = max(32, 4 * finest)
    near = ' x '.join(str(max(step, round(side / step) * step)) for side in size_hw)
    raise InputError(
        f'image_size is {size_hw[0]} x {size_hw[1]}, and no mask patch of at least {finest} pixels, the '
        f'finest map of the network, divides both sides into 4 to 16: take {near}, name mask_patch_size, '
        'or take a network for small images such as resnet18_cifar10'
    )


def _largest_divisor(patch: int, strides: set[int]) -> int:
    return max((stride for stride in strides if patch % stride == 0), default=0)


def choose_epochs(images: int) -> int:
    """300 epochs for as many images as ImageNet has, and more for fewer: at most 1,600.

    What counts is how many images the network sees in all. The paper's 300 epochs are 384 million. The
    number of epochs grows with the square root of the images that are missing, so that a data set a hundred
    times smaller is seen ten times as often.
    """
    return max(1, min(_MOST_EPOCHS, round(_EPOCHS * math.sqrt(_IMAGENET / images))))


def choose_epochs_from_weights(images: int) -> int:
    """A third of the epochs of a training from random weights; ours."""
    return max(1, choose_epochs(images) // 3)


def choose_batch(images: int, fitting: int, ranks: int) -> int:
    """Images of a rank in one step: a power of two, or all images where they are few.

    Args:
        images: Number of images in the data set.
        fitting: How many fit into the memory of a rank.
        ranks: Number of ranks. All together take at most 2,048 images a step, and small data sets are split
            into 16 steps an epoch.
    """
    together = min(_BATCH, max(_SMALL_BATCH, images // _STEPS_AN_EPOCH), images)
    share = max(1, min(fitting, together // ranks))
    return share if share < _SMALL_BATCH else 2 ** int(math.log2(share))


def choose_workers(ranks_here: int) -> int:
    """Processes that decode images for one of the ranks on this machine: one for each core that it has."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, usable // ranks_here))


def choose_warmup(epochs: int) -> int:
    """Epochs of warm-up: 10 (Table A1), but at most a tenth of a short training."""
    return min(_WARMUP, math.ceil(epochs / 10))


def scale_lr(lr: float, base_batch: int, batch: int) -> float:
    """The learning rate for a batch, from one for ``base_batch`` images, by the square root of their ratio.

    The paper's linear rule is for batches near 2,048. At 32 it gives 2e-5, with which AdamW hardly moves.
    """
    return lr * math.sqrt(batch / base_batch)
