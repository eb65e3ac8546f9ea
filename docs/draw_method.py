"""Draw the method on one photo, as docs/method.png.

python docs/draw_method.py [--out PICTURE.png]

Mask, fill, network and losses are those of the package. The network is a small ViT. So that there is a
prediction to show, it learns this one photo by heart, in minutes on a CPU.
"""

import argparse
from pathlib import Path

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from mmengine.config import Config
from mmengine.registry import init_default_scope
from skimage import data
from torch import Tensor

from a2mim_mm.data.reading import fit_image
from a2mim_mm.models import A2MIM, loss_composite
from a2mim_mm.models.masking import resize_mask
from a2mim_mm.models.reconstruct import draw_mask, mean_std, reconstruct
from a2mim_mm.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]
SIZE = 224  # pixels of the photo
STEPS = 1000
WIDTH, HEIGHT = 1600, 732  # pixels of the drawing, and its coordinates: y points down
INK, LINE, PALE, DARK = '#1f2933', '#7b8794', '#e4e7eb', '#3e4c59'
BLUE, ORANGE, GREEN, PURPLE = '#2f6ea5', '#d9730d', '#4d8b3f', '#7a4fa3'


def build_model() -> A2MIM:
    """The ViT of `make demo`, for photos of 224 pixels and mask patches of 32."""
    cfg = Config.fromfile(ROOT / 'configs/selfsup/demo_vit.py')
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.update(img_size=SIZE, patch_size=16)
    cfg.model.neck.encoder_stride = 16
    cfg.model.mask.patch_size = 32
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    model.init_weights()
    return model


def learn(model: A2MIM, img_b3hw: Tensor) -> None:
    """Learn one normalised photo (1, 3, H, W) by heart, under another mask at each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-4, total_steps=STEPS, pct_start=0.1)
    for step in range(STEPS):
        mask_bhw = draw_mask(model, img_b3hw, seed=1000 + step)
        mask_b1hw = resize_mask(mask_bhw, img_b3hw.shape[2:])[:, None]
        pred_b3hw = model.predict_pixels(img_b3hw, mask_bhw, mask_b1hw)
        optimizer.zero_grad()
        sum(model.head.loss(pred_b3hw, img_b3hw, mask_b1hw).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def show_method() -> dict[str, Tensor]:
    """What the drawing shows.

    Returns:
        The columns of :func:`reconstruct` as pictures (H, W, 3) in 0..1; ``mask`` (h, w) and ``hidden``
        (H, W), 1 = hidden; the ``token``; the differences ``l1`` and ``spectrum`` (H, W).
    """
    torch.manual_seed(0)
    model, photo_b3hw = build_model(), fit_image(data.astronaut(), (SIZE, SIZE))[None]
    mean, std = mean_std(model.data_preprocessor)
    learn(model, (photo_b3hw * 255 - mean) / std)
    mask_bhw = draw_mask(model, photo_b3hw, seed=5)  # a mask that it has not seen
    pictures = reconstruct(model, photo_b3hw, mask_bhw)
    mask_b1hw = resize_mask(mask_bhw, (SIZE, SIZE))[:, None]
    predicted_b3hw = loss_composite(pictures['prediction'], photo_b3hw, mask_b1hw)
    shown = {name: picture[0].permute(1, 2, 0) for name, picture in pictures.items()}
    shown |= dict(mask=mask_bhw[0], token=model.mask_token.token.detach(), hidden=mask_b1hw[0, 0])
    shown['l1'] = (predicted_b3hw - photo_b3hw).abs().mean(dim=1)[0]
    spectrum = torch.fft.fft2(predicted_b3hw - photo_b3hw, norm='ortho').abs().mean(dim=1)[0]
    shown['spectrum'] = torch.fft.fftshift(spectrum).log1p()
    return shown


def picture(ax: Axes, image: Tensor, x: float, y: float, side: float) -> None:
    """A square picture, its upper left corner at (x, y)."""
    ax.imshow(image, extent=(x, x + side, y + side, y), zorder=2)
    ax.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=INK, linewidth=0.8, zorder=3))


def block(ax: Axes, x: float, height: float, width: float, colour: str, text: str) -> None:
    """A part of the network, its centre at (x, 220)."""
    box = FancyBboxPatch(
        (x - width / 2 + 8, 228 - height / 2), width - 16, height - 16, boxstyle='round,pad=8'
    )
    box.set(facecolor=colour + '22', edgecolor=colour, linewidth=1.2, zorder=2)
    ax.add_patch(box)
    ax.text(x, 220, text, rotation=90, ha='center', va='center', fontsize=8.5, color=INK, zorder=3)


def sign(ax: Axes, x: float, y: float, text: str) -> None:
    """A plus or a times in a circle."""
    ax.add_patch(Circle((x, y), 20, facecolor='white', edgecolor=ORANGE, linewidth=1.4, zorder=4))
    ax.text(x, y, text, ha='center', va='center_baseline', fontsize=13, color=ORANGE, zorder=5)


def arrow(ax: Axes, *points: tuple[float, float], colour: str = LINE) -> None:
    """A line along points, with a head at the last one."""
    ax.plot(*zip(*points[:-1], strict=True), color=colour, linewidth=1.4, zorder=1, solid_joinstyle='miter')
    style = dict(arrowstyle='-|>', mutation_scale=10, shrinkA=0, shrinkB=0, linewidth=1.4, color=colour)
    ax.add_patch(FancyArrowPatch(points[-2], points[-1], zorder=1, **style))


def label(ax: Axes, x: float, y: float, title: str, text: str = '', colour: str = INK) -> None:
    """A bold line at (x, y), and a plain one below it."""
    ax.text(x, y, title, ha='center', va='baseline', fontsize=9.5, weight='bold', color=colour)
    ax.text(x, y + 30, text, ha='center', va='baseline', fontsize=8.5, color=INK)


def heat(values_hw: Tensor, shown_hw: Tensor | None = None) -> Tensor:
    """Colours (H, W, 4) of values, up to their 98th percentile; pale where they do not count."""
    scaled = (values_hw / values_hw.quantile(0.98)).clamp(0, 1)
    colours = torch.from_numpy(colormaps['magma'](scaled.numpy()))
    if shown_hw is not None:
        colours[shown_hw == 0] = torch.tensor([0.89, 0.91, 0.92, 1], dtype=colours.dtype)
    return colours


def draw_network(ax: Axes, shown: dict[str, Tensor]) -> None:
    """The upper row: from the image to the prediction."""
    label(ax, 160, 56, 'image')
    picture(ax, shown['original'], 40, 100, 240)
    label(ax, 460, 56, 'input', 'holes: its mean colour')
    picture(ax, shown['masked'], 340, 100, 240)
    label(ax, 841, 56, 'encoder', 'any CNN or Transformer', BLUE)
    for number, x, height in ((1, 672, 240), (2, 758, 206), (3, 844, 172), (4, 1010, 138)):
        block(ax, x, height, 56, BLUE, f'stage {number}')
    sign(ax, 927, 220, '+')
    label(ax, 1160, 56, 'decoder', 'one linear layer', GREEN)
    block(ax, 1160, 240, 76, GREEN, 'pixel shuffle')
    label(ax, 1440, 56, 'prediction', 'in the holes')
    picture(ax, shown['composite'], 1320, 100, 240)
    gaps = (
        (282, 337),
        (582, 641),
        (702, 727),
        (788, 813),
        (874, 904),
        (948, 979),
        (1040, 1119),
        (1200, 1317),
    )
    for start, end in gaps:
        arrow(ax, (start, 220), (end, 220))


def draw_token(ax: Axes, shown: dict[str, Tensor]) -> None:
    """The lower row, left: the mask and the token."""
    rows, cols = shown['mask'].shape
    hidden_hw3 = shown['mask'].repeat_interleave(18, 0).repeat_interleave(18, 1)[..., None].expand(-1, -1, 3)
    picture(ax, 0.9 - 0.65 * hidden_hw3, 370, 446, 180)
    for index in range(1, 7):
        place = index * 180 / 7
        ax.plot((370, 550), (446 + place, 446 + place), color='white', linewidth=0.8, zorder=2.5)
        ax.plot((370 + place, 370 + place), (446, 626), color='white', linewidth=0.8, zorder=2.5)
    hidden = int(shown['mask'].sum())
    label(ax, 460, 668, 'mask', f'{hidden} of {rows * cols} patches are hidden')
    arrow(ax, (460, 443), (460, 343))
    arrow(ax, (553, 536), (904, 536), colour=ORANGE)
    arrow(ax, (927, 600), (927, 559), colour=ORANGE)
    arrow(ax, (927, 515), (927, 243), colour=ORANGE)
    sign(ax, 927, 536, '\u00d7')
    token = shown['token'][None, :20]
    colours = colormaps['coolwarm'](token / token.abs().max() / 2 + 0.5)
    ax.imshow(colours, extent=(807, 1047, 626, 602), zorder=2)
    ax.add_patch(Rectangle((807, 602), 240, 24, fill=False, edgecolor=INK, linewidth=0.8, zorder=3))
    label(ax, 927, 668, 'mask token', 'one learnable vector', ORANGE)
    for y, line in ((372, 'added to the features'), (402, 'where the image is hidden')):
        ax.text(905, y, line, ha='right', va='baseline', fontsize=8.5, color=INK)


def draw_losses(ax: Axes, shown: dict[str, Tensor]) -> None:
    """The lower row, right: the two losses."""
    picture(ax, heat(shown['l1'], shown['hidden']), 1120, 446, 180)
    picture(ax, heat(shown['spectrum']), 1350, 446, 180)
    arrow(ax, (1440, 343), (1440, 443), colour=PURPLE)
    arrow(ax, (1440, 394), (1210, 394), (1210, 443), colour=PURPLE)
    ax.text(1425, 381, 'minus the image', ha='right', va='baseline', fontsize=8.5, color=INK)
    label(ax, 1210, 668, 'L1', 'on hidden pixels', PURPLE)
    ax.text(1325, 536, '+', ha='center', va='center_baseline', fontsize=15, color=PURPLE)
    label(ax, 1440, 668, '0.5 \u00d7 Fourier', 'on the spectrum', PURPLE)


def draw(shown: dict[str, Tensor]) -> Figure:
    """The drawing: a white card with round corners, which suits light and dark pages."""
    figure = Figure(figsize=(WIDTH / 200, HEIGHT / 200), dpi=200)
    ax = figure.add_axes((0, 0, 1, 1))
    card = FancyBboxPatch(
        (20, 20), WIDTH - 40, HEIGHT - 40, boxstyle='round,pad=20', facecolor='white', edgecolor='none'
    )
    ax.add_patch(card)
    draw_network(ax, shown)
    draw_token(ax, shown)
    draw_losses(ax, shown)
    ax.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0), aspect='equal')
    ax.axis('off')
    return figure


def main(argv: list[str] | None = None) -> None:
    """Learn the photo, then draw."""
    parser = argparse.ArgumentParser(description='Draw the method on one photo.')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs/method.png', metavar='PICTURE.png')
    args = parser.parse_args(argv)
    draw(show_method()).savefig(args.out, transparent=True, pil_kwargs=dict(optimize=True))


if __name__ == '__main__':
    main()
