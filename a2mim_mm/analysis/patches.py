"""An image as a set of patches, some of them hidden.

Shape suffixes: b images, n patches of the grid, row by row, h and w its rows and columns.
"""

import torch
from torch import Tensor

from a2mim_mm.errors import InputError
from a2mim_mm.models.masking import resize_mask

FILLS = ('black', 'zero', 'mean')


def fill_colour(fill: str, img_b3hw: Tensor, black_3: Tensor) -> Tensor:
    """The colour that hidden patches get.

    Args:
        fill: ``'black'``: pixel value 0 (the code of Naseer et al.). ``'zero'``: 0 after normalisation, the
            mean colour of the data set (the code of Deng et al.). ``'mean'``: the image's own mean colour,
            which A2MIM fills with (:class:`~a2mim_mm.models.fill.Fill`).
        img_b3hw: Normalised images.
        black_3: Black, normalised.

    Returns:
        (b, 3, 1, 1) for ``'mean'``, (3, 1, 1) for the others.

    Raises:
        ValueError: If ``fill`` is something else.
    """
    if fill == 'black':
        return black_3[:, None, None]
    if fill == 'zero':
        return torch.zeros_like(black_3)[:, None, None]
    if fill == 'mean':
        return img_b3hw.mean(dim=(2, 3), keepdim=True)
    raise InputError(f'fill must be one of {", ".join(FILLS)}, got {fill!r}')


def hide_patches(img_b3hw: Tensor, hidden_bn: Tensor, grid: tuple[int, int], colour: Tensor) -> Tensor:
    """Images whose hidden patches have one colour.

    Args:
        img_b3hw: Normalised images (b, 3, H, W), or one (1, 3, H, W) for all masks.
        hidden_bn: Whether a patch is hidden, bool (b, n).
        grid: Rows and columns. If they do not divide the image, each pixel belongs to the patch that holds
            its centre.
        colour: What :func:`fill_colour` gives.

    Returns:
        (b, 3, H, W).

    Raises:
        ValueError: If the grid is finer than the image, so that some patches would hold no pixel.
    """
    if grid[0] > img_b3hw.shape[2] or grid[1] > img_b3hw.shape[3]:
        raise InputError(
            f'a grid of {grid} patches is finer than images of {tuple(img_b3hw.shape[2:])} pixels'
        )
    mask_bhw = resize_mask(hidden_bn.view(-1, *grid).to(img_b3hw), img_b3hw.shape[2:])
    return torch.where(mask_bhw[:, None].bool(), colour, img_b3hw)


def log_odds(logits_bc: Tensor, labels_b: Tensor) -> Tensor:
    """log(p / (1 - p)) of the true class (Appendix B.2), in float64 (b,).

    Computed as the logit minus the log-sum-exp of the others. This is finite for any finite logits, where p
    itself would round to 0 or 1.

    Raises:
        ValueError: If there are fewer than two classes.
    """
    if logits_bc.ndim != 2 or logits_bc.shape[1] < 2:
        raise InputError(
            f'log-odds need logits (images, 2 classes or more), got {tuple(logits_bc.shape)}: the network '
            'must end in a classifier'
        )
    logits_bc, labels_b1 = logits_bc.double(), labels_b[:, None]
    others_bc = logits_bc.scatter(1, labels_b1, -torch.inf)
    return logits_bc.gather(1, labels_b1)[:, 0] - others_bc.logsumexp(1)
