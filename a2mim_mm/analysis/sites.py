"""Where a network has feature maps: the outputs of its blocks, found in any network.

A *block* is a module with at least two weights, directly in a container (``Sequential``, ``ModuleList``,
``ModuleDict``), that holds no other such module: the residual blocks of a ResNet, the layers of a ViT, the
blocks in the stages of Swin and ConvNeXt. A network without them may have modules with a sibling of the same
class (RegNet in timm): these are its blocks. In any other network, each convolution is a block (VGG).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import gcd

import torch
from torch import Tensor, nn

from a2mim_mm.errors import InputError
from a2mim_mm.models.token_layout import MAX_EXTRA_TOKENS, token_grid

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def _in_container(module: nn.Module, parent: nn.Module) -> bool:
    return isinstance(parent, _CONTAINERS) and _has_weights(module)


def _has_sibling(module: nn.Module, parent: nn.Module) -> bool:
    return [type(child) for child in parent.children()].count(type(module)) > 1 and _has_weights(module)


def _is_convolution(module: nn.Module, _parent: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)


def _has_weights(module: nn.Module) -> bool:
    weights = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    return len(weights) > 1 and not isinstance(module, _CONTAINERS)


def blocks(network: nn.Module, rule: Callable[[nn.Module, nn.Module], bool] = _in_container) -> list[str]:
    """Names of the blocks, in the order of their registration.

    Args:
        network: The network.
        rule: Whether a module, given its parent, may be a block.
    """
    modules = dict(network.named_modules())
    names = [name for name, module in modules.items() if name and rule(module, modules[_parent(name)])]
    holders = {holder for name in names for holder in _holders(name)}
    return [name for name in names if name not in holders]


def _parent(name: str) -> str:
    return name.rpartition('.')[0]


def _holders(name: str) -> Iterator[str]:
    """Names of the modules that hold a module, at any depth."""
    while name := _parent(name):
        yield name


@torch.no_grad()
def find_sites(network: nn.Module, img_b3hw: Tensor) -> list[str]:
    """Names of the blocks that give a feature map, in the order in which they run.

    Args:
        network: The network.
        img_b3hw: An image that it takes.

    Raises:
        ValueError: If no block gives a feature map.
    """
    for rule in (_in_container, _has_sibling, _is_convolution):
        order: list[str] = []

        def note(site: str, _feat_bchw: Tensor, order: list[str] = order) -> None:
            order.append(site)

        with tapped(network, blocks(network, rule), img_b3hw.shape, note, strict=False):
            network(img_b3hw)
        runs = Counter(order)
        sites = [site for site in order if runs[site] == 1]
        if sites:
            return sites
    children = ', '.join(name for name, _ in network.named_children())
    raise InputError(
        f'no blocks with feature maps were found in {type(network).__name__}, which is made of {children}: '
        'name its sites (--sites)'
    )


@contextmanager
def tapped(
    network: nn.Module,
    sites: Sequence[str],
    input_shape: Sequence[int],
    keep: Callable[[str, Tensor], None],
    strict: bool = True,
) -> Iterator[None]:
    """Hand each feature map of one forward pass to ``keep(site, feat_bchw)`` when it is made.

    Args:
        network: The network.
        sites: Names of sub-modules.
        input_shape: Shape of the images, (B, 3, H, W).
        keep: Receives the maps. A later module may overwrite them in place.
        strict: Whether an output that is not a map, or a site that does not run exactly once, is an error.

    Raises:
        ValueError: If the network does not have a site, or as ``strict`` says.
    """
    modules = dict(network.named_modules())
    unknown = [site for site in sites if site not in modules]
    if unknown:
        children = ', '.join(name for name, _ in network.named_children())
        raise InputError(
            f'this {type(network).__name__} has no site {", ".join(unknown)}; it is made of {children}'
        )
    runs = Counter()

    def tap(site: str, _module: nn.Module, _args: tuple, output: object) -> None:
        feat_bchw = as_map(output, input_shape)
        if feat_bchw is not None and feat_bchw.shape[2:].numel() > 1:
            runs[site] += 1
            keep(site, feat_bchw)
        elif strict:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise InputError(f'the output of site {site} is not a map with more than one position: {shape}')

    hooks = [modules[site].register_forward_hook(partial(tap, site)) for site in sites]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    wrong = [f'{site} ({runs[site]} times)' for site in sites if runs[site] != 1]
    if strict and wrong:
        raise InputError(f'each site has to run once in a forward pass, but: {", ".join(wrong)}')


def as_map(output: object, input_shape: Sequence[int]) -> Tensor | None:
    """The output of a module as a feature map (B, C, h, w), or None if it is not one.

    Args:
        output: (B, C, h, w), (B, h, w, C) or tokens (B, extra + h * w, C), or a tuple that begins with one of
            these. Extra tokens, such as cls, come first and are left out.
        input_shape: Shape of the images, (B, 3, H, W). A map has their batch size and proportions.
    """
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.ndim not in (3, 4):
        return None
    if len(output) != input_shape[0]:
        return None
    input_hw = tuple(input_shape[2:])
    if output.ndim == 4:
        layouts = (output, output.permute(0, 3, 1, 2))
        misfits = [_misfit(feat_bchw.shape[2:], input_hw) for feat_bchw in layouts]
        return layouts[misfits.index(min(misfits))] if min(misfits) < 1 else None
    for whole in (True, False):
        for extra in range(MAX_EXTRA_TOKENS + 1):
            grid = token_grid(output.shape[1] - extra, input_hw, whole)
            if grid is not None:
                return output[:, extra:].transpose(1, 2).unflatten(2, grid)
    return None


def _misfit(size_hw: Sequence[int], input_hw: Sequence[int]) -> float:
    """How far a map is from the proportions of the image; below 1, it is less than a row or column off."""
    common = gcd(*input_hw)
    height, width = input_hw[0] // common, input_hw[1] // common
    return abs(size_hw[0] * width - size_hw[1] * height) / max(height, width)
