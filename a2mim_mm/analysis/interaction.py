"""Multi-order interactions between patches (Section 3.2, Appendix B.2, Equations 1 and 2, Figures 1, A1).

    I^(m)(i, j) = E over S in N without {i, j}, |S| = m, of f(S + i + j) - f(S + i) - f(S + j) + f(S)
    J^(m) = E over images and pairs of |I^(m)|, divided by its mean over the orders

f(S) is the score of the image whose patches outside of S are hidden. The order m is the size of S. Low orders
tell what two patches say almost alone, high orders what they add to nearly the whole image.

Pairs and contexts are drawn without replacement, so the result is exact where all of them are drawn. The
absolute value is taken after the mean over contexts. The noise of too few contexts therefore adds to the
strength, most where the interaction is weakest. ``noise`` is the strength that noise alone would show.

Shape suffixes: n patches, p pairs, o orders, k contexts or masks, x images.
"""

import argparse
import dataclasses
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import comb, pi, sqrt

import numpy as np
import torch
from torch import Tensor

from a2mim_mm.errors import InputError

from .figures import draw_interaction
from .measuring import analyse, progress
from .networks import Source, Subject, load_classifier
from .patches import fill_colour, hide_patches, log_odds
from .photos import Photos, choose_photos

Score = Callable[[Tensor], Tensor]

# r of Appendix B.2's figures: m = round(r * (n - 2)).
ORDER_RATIOS = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1)
COLUMNS = dict(
    order='orders',
    order_share='order_shares',
    J='J',
    J_low='J_low',
    J_high='J_high',
    strength='strength',
    noise='noise',
)
TERMS = 4  # f(S + i + j), f(S + i), f(S + j), f(S)
_SIGNS = (1, -1, -1, 1)
_ENUMERATED = 20  # list all contexts if there are at most this many times the wanted number
_ROUNDING = 1e-6  # strength that float32 log-odds show for a score that is a sum over patches


@dataclass(frozen=True)
class Plan:
    """What will be evaluated.

    Attributes:
        grid: Rows and columns of the patches.
        radius: Largest distance of a pair, in rows and in columns; None for any.
        num_images: Number of images.
        num_pairs: Number of pairs (i, j) per image.
        orders: The orders m, ascending.
        contexts: Number of contexts S for each order.
    """

    grid: tuple[int, int]
    radius: int | None
    num_images: int
    num_pairs: int
    orders: tuple[int, ...]
    contexts: tuple[int, ...]

    @property
    def passes(self) -> int:
        """Number of images that go through the network: images x pairs x contexts of all orders x 4."""
        return self.num_images * self.num_pairs * sum(self.contexts) * TERMS

    def __str__(self) -> str:
        fewest, most = min(self.contexts), max(self.contexts)
        contexts = f'{fewest}..{most}' if fewest != most else f'{most}'
        return (
            f'{self.num_images} images x {self.num_pairs} pairs x {len(self.orders)} orders x {contexts} '
            f'contexts x {TERMS} terms = {self.passes:,} forward passes a model'
        )


def make_plan(
    grid: tuple[int, int],
    num_images: int,
    num_pairs: int,
    contexts: int | None = None,
    budget: int | None = None,
    ratios: Sequence[float] = ORDER_RATIOS,
    radius: int | None = None,
) -> Plan:
    """Decide what to evaluate. No more pairs and contexts are taken than exist.

    Args:
        grid: Rows and columns of the patches.
        num_images: Number of images.
        num_pairs: Number of pairs per image.
        contexts: Number of contexts for a pair and an order, at least 2. Give this or ``budget``.
        budget: Largest number of forward passes. As many contexts as fit are taken.
        ratios: The orders, as shares of n - 2.
        radius: Largest distance of a pair, in rows and in columns; None for any.

    Raises:
        ValueError: If an argument is out of range, or the budget is too small for 2 contexts.
    """
    others = grid[0] * grid[1] - 2
    if min(grid) < 1 or others < 1:
        raise InputError(f'interactions need at least 3 patches, the grid has {grid[0]} x {grid[1]}')
    if not ratios or not all(0 <= ratio <= 1 for ratio in ratios):
        raise InputError(f'orders must be shares in 0..1, got {list(ratios)}')
    if num_images < 1 or num_pairs < 1:
        raise InputError(f'at least 1 image and 1 pair are needed, got {num_images} and {num_pairs}')
    if (contexts is None) == (budget is None):
        raise InputError('give either contexts or a budget')
    if contexts is not None and contexts < 2:
        raise InputError(f'contexts must be at least 2, got {contexts}')
    orders = tuple(sorted({round(ratio * others) for ratio in ratios}))
    num_pairs = min(num_pairs, len(all_pairs(grid, radius)))

    def with_contexts(most: int) -> Plan:
        return Plan(
            grid, radius, num_images, num_pairs, orders, tuple(min(most, comb(others, m)) for m in orders)
        )

    if contexts is None:  # the largest number whose passes stay within the budget
        contexts = bisect_right(range(1, budget + 1), budget, key=lambda most: with_contexts(most).passes)
        if contexts < 2:
            raise InputError(
                f'a budget of {budget:,} forward passes is too small, since 2 contexts take '
                f'{with_contexts(2)}: take fewer images or pairs, or a larger budget'
            )
    return with_contexts(contexts)


def all_pairs(grid: tuple[int, int], radius: int | None = None) -> np.ndarray:
    """All pairs of patches i < j at most ``radius`` rows and columns apart, int64 (pairs, 2).

    Raises:
        ValueError: If the radius is not positive.
    """
    if radius is not None and radius < 1:
        raise InputError(f'radius must be at least 1, got {radius}')
    first, second = np.triu_indices(grid[0] * grid[1], k=1)
    rows, cols = (abs(first // grid[1] - second // grid[1]), abs(first % grid[1] - second % grid[1]))
    near = np.maximum(rows, cols) <= (radius or max(grid))
    return np.stack([first[near], second[near]], axis=1)


def draw_pairs(plan: Plan, rng: np.random.Generator) -> np.ndarray:
    """Draw different pairs of a plan, int64 (p, 2)."""
    pairs = all_pairs(plan.grid, plan.radius)
    return pairs[rng.choice(len(pairs), plan.num_pairs, replace=False)]


def draw_contexts(rng: np.random.Generator, others: int, order: int, count: int) -> np.ndarray:
    """Draw different subsets of ``order`` out of ``others`` patches, uniformly, bool (count, others).

    Raises:
        ValueError: If fewer than ``count`` exist.
    """
    total = comb(others, order)
    if count > total:
        raise InputError(f'there are only {total} contexts of {order} out of {others}, not {count}')
    if total <= _ENUMERATED * count:
        chosen = set(rng.choice(total, count, replace=False).tolist())
        members = [s for number, s in enumerate(combinations(range(others), order)) if number in chosen]
        contexts = np.zeros((count, others), dtype=bool)
        np.put_along_axis(contexts, np.array(members, dtype=np.int64).reshape(count, order), True, axis=1)
        return contexts
    contexts = np.zeros((0, others), dtype=bool)
    while len(contexts) < count:  # repetitions are rare, and replaced
        keys = rng.random((count - len(contexts), others))
        drawn = keys.argsort(axis=1).argsort(axis=1) < order
        _, first = np.unique(np.concatenate([contexts, drawn]), axis=0, return_index=True)
        contexts = np.concatenate([contexts, drawn])[np.sort(first)]
    return contexts


@dataclass(frozen=True)
class Interactions:
    """The interactions of one image.

    Attributes:
        pairs_p2: The pairs, int64.
        value_po: I^(m)(i, j).
        error_po: Its standard error, 0 where all contexts were evaluated.
    """

    pairs_p2: np.ndarray
    value_po: np.ndarray
    error_po: np.ndarray

    @property
    def strength_o(self) -> np.ndarray:
        """E over pairs of |I^(m)|."""
        return abs(self.value_po).mean(axis=0)

    @property
    def noise_o(self) -> np.ndarray:
        """The strength that would show if all interactions were 0: the mean of |N(0, error)|."""
        return sqrt(2 / pi) * self.error_po.mean(axis=0)


def image_interactions(
    score: Score,
    plan: Plan,
    seed: int,
    image: int,
    batch_size: int = 256,
) -> Interactions:
    """Evaluate the interactions of one image.

    Args:
        score: Maps kept patches, bool (k, n), to f, float (k,).
        plan: What to evaluate.
        seed: Seed of the run.
        image: Number of the image. Pairs and contexts follow from (seed, image) alone, so all models get the
            same ones.
        batch_size: Number of forward passes at once; the four terms of a context stay together.

    Raises:
        ValueError: If a score is not finite.
    """
    rng = np.random.default_rng((seed, image))
    pairs_p2 = draw_pairs(plan, rng)
    values, errors = [], []
    for i, j in pairs_p2:
        contexts_kn = _contexts_of(plan, i, j, rng)
        delta_k = _deltas(score, contexts_kn, i, j, max(1, batch_size // TERMS))
        value_o, error_o = _averages(delta_k, plan)
        values.append(value_o)
        errors.append(error_o)
    return Interactions(pairs_p2, np.stack(values), np.stack(errors))


def _contexts_of(plan: Plan, i: int, j: int, rng: np.random.Generator) -> np.ndarray:
    """The contexts of a pair, order by order, bool (k, n), without i and j."""
    num_patches = plan.grid[0] * plan.grid[1]
    others = np.delete(np.arange(num_patches), [i, j])
    contexts_kn = np.zeros((sum(plan.contexts), num_patches), dtype=bool)
    contexts_kn[:, others] = np.concatenate(
        [
            draw_contexts(rng, len(others), order, count)
            for order, count in zip(plan.orders, plan.contexts, strict=True)
        ]
    )
    return contexts_kn


def _deltas(score: Score, contexts_kn: np.ndarray, i: int, j: int, chunk: int) -> np.ndarray:
    """f(S + i + j) - f(S + i) - f(S + j) + f(S) for each context, float64 (k,)."""
    deltas = []
    for part_kn in torch.from_numpy(contexts_kn).split(chunk):
        kept_4kn = part_kn.repeat(TERMS, 1, 1)
        kept_4kn[:2, :, i] = True
        kept_4kn[0::2, :, j] = True
        score_4k = score(kept_4kn.flatten(0, 1)).double().cpu().view(TERMS, -1)
        if not score_4k.isfinite().all():
            raise InputError('the network gives a score that is not finite')
        deltas.append(score_4k.new_tensor(_SIGNS) @ score_4k)
    return torch.cat(deltas).numpy()


def _averages(delta_k: np.ndarray, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error over the contexts of each order, both (o,)."""
    others = plan.grid[0] * plan.grid[1] - 2
    parts = np.split(delta_k, np.cumsum(plan.contexts)[:-1])
    means = [part.mean() for part in parts]
    errors = [
        # Contexts are drawn without replacement, so the error shrinks to 0 when all are drawn.
        sqrt(part.var(ddof=1) / len(part) * (1 - len(part) / comb(others, order))) if len(part) > 1 else 0.0
        for part, order in zip(parts, plan.orders, strict=True)
    ]
    return np.array(means), np.array(errors)


@dataclass(frozen=True)
class Strength:
    """J^(m) (Equation 2) and its 95 % confidence interval, by bootstrap over images; all (o,)."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def relative_strength(strength_xo: np.ndarray, seed: int, resamples: int = 2000) -> Strength:
    """J^(m): the strength of an order, relative to the mean over all evaluated orders.

    Args:
        strength_xo: E over pairs of |I^(m)| for each image and order.
        seed: Seed of the bootstrap.
        resamples: Number of bootstrap samples, each of as many images, drawn with replacement.

    Raises:
        ValueError: If all strengths are 0, up to rounding: the score is then a sum over patches.
    """
    mean_o = strength_xo.mean(axis=0)
    if mean_o.max() < _ROUNDING:
        raise InputError('there are no interactions: the score is a sum over patches')
    drawn = np.random.default_rng(seed).integers(len(strength_xo), size=(resamples, len(strength_xo)))
    means_ro = strength_xo[drawn].mean(axis=1)
    means_ro = means_ro[means_ro.any(axis=1)]  # a sample may hold only images without interaction
    low_o, high_o = np.percentile(means_ro / means_ro.mean(axis=1, keepdims=True), [2.5, 97.5], axis=0)
    return Strength(mean_o / mean_o.mean(), low_o, high_o)


def score_of(subject: Subject, img_13hw: Tensor, label: int, plan: Plan, fill: str) -> Score:
    """Return f of one image: it maps kept patches, bool (k, n), to the log-odds of the true class."""
    colour = fill_colour(fill, img_13hw, subject.black())

    @torch.no_grad()
    def score(kept_kn: Tensor) -> Tensor:
        hidden_kn = ~kept_kn.to(img_13hw.device)
        logits_kc = subject.network(hide_patches(img_13hw, hidden_kn, plan.grid, colour))
        return log_odds(logits_kc, logits_kc.new_full((len(logits_kc),), label, dtype=torch.long))

    return score


def measure(source: Source, photos: Photos, plan: Plan, args: argparse.Namespace) -> dict:
    """J^(m), and the strength of each image at each order."""
    subject = load_classifier(source, args.seed, len(photos.classes))
    photos.check(subject)
    found = []
    images = enumerate(photos.batches(subject, batch_size=1))
    for image, img_13hw in progress(images, source.name, total=len(photos)):
        score = score_of(subject, img_13hw, photos.labels[image].item(), plan, args.fill)
        found.append(image_interactions(score, plan, args.seed, image, args.batch_size))
    strength_xo = np.stack([interactions.strength_o for interactions in found])
    relative = relative_strength(strength_xo, args.seed)
    several = len(found) > 1  # a single image has no spread
    return dict(
        images=len(photos),
        orders=plan.orders,
        order_shares=[order / (args.grid**2 - 2) for order in plan.orders],
        contexts=plan.contexts,
        J=relative.mean.tolist(),
        J_low=relative.low.tolist() if several else None,
        J_high=relative.high.tolist() if several else None,
        strength=strength_xo.mean(axis=0).tolist(),
        noise=np.mean([interactions.noise_o for interactions in found], axis=0).tolist(),
        strength_of_images=strength_xo.tolist(),
    )


def run(args: argparse.Namespace) -> None:
    """Print the number of forward passes, measure all networks, write the report and draw the picture.

    Args:
        args: The command line of ``tools/analysis/interaction.py``.
    """
    photos = choose_photos(args.images, args.count, args.seed, labelled=True)
    grid, radius = (args.grid, args.grid), args.radius or None
    plan = make_plan(grid, len(photos), args.pairs, args.contexts, args.budget, args.orders, radius)
    print(plan, flush=True)
    settings = dict(
        analysis='interaction',
        images=photos.digest,
        classes=photos.classes,
        plan=dataclasses.asdict(plan),
        passes=plan.passes,
        fill=args.fill,
        seed=args.seed,
    )
    models = analyse(args, settings, partial(measure, photos=photos, plan=plan, args=args), COLUMNS)
    for model in models:
        share, order = max(zip(np.divide(model['noise'], model['strength']), model['orders'], strict=True))
        print(f'{model["name"]}: noise is at most {share:.0%} of the strength, at order {order}')
    draw_interaction(models, args.out / 'interaction.png')
    print(f'drawn: {args.out / "interaction.png"}')
