"""Where a network has feature maps, and where the mask token goes: found in any network, by rule.

A *block* is a module with at least two weights, directly in a container (``Sequential``, ``ModuleList``,
``ModuleDict``), that holds no other such module: the residual blocks of a ResNet, the layers of a ViT, the
blocks in the stages of Swin and ConvNeXt. A network without them may have modules with a sibling of the same
class (RegNet in timm): these are its blocks. In a network without either, each convolution is a block (VGG).
"""

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import ceil, log2

import torch
from torch import Tensor, nn

from a2mim_mm.errors import InputError, first_names

from .dry_run import dry_run, image_channels
from .token_layout import guess_layout, to_map

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_STRIDE = 16  # of the mask token: Section 5.1, stage 3 of ResNet-50
_IMAGES = 2  # in a dry forward; with one, windows in the place of images would not show
_DEPTH = 2 / 3  # of the mask token in plain Transformers: Section 5.1, layer 8 of ViT-B's 12


@dataclass(frozen=True)
class Site:
    """A module whose output is a feature map.

    Attributes:
        name: Its name in the network; '' for the network itself.
        layout: Of its output; see :mod:`.token_layout`.
        channels: Number of channels C.
        size_hw: Height and width of the map.
        stride: Pixels of the image for one position.
    """

    name: str
    layout: str
    channels: int
    size_hw: tuple[int, int]
    stride: int


@dataclass(frozen=True)
class Survey:
    """The feature maps of a network.

    Attributes:
        network: Its class.
        sites: Modules that run once and give a map, by name, in the order in which they end.
        blocks: Names of the blocks among them, in the same order.
        shapes: What every module that ran gives, as text; '' for the last output of the network.
        output: The last output of the network, as a map; None if it is not one.
    """

    network: str
    sites: dict[str, Site]
    blocks: tuple[str, ...]
    shapes: dict[str, str]
    output: Site | None

    def token_site(self, patch_size: int = 32) -> Site:
        """Where the mask token goes: after the last block at stride 16, as after stage 3 of ResNet-50.

        Without this stride it is the nearest below, and without one below, the nearest above. If the network
        ends at that stride, nothing would follow the token. Then it is the block at two thirds of the blocks
        at this stride, as layer 8 of ViT-B. A module that ends with the block, such as its stage, and gives a
        map of the same stride, stands for the block.

        Args:
            patch_size: Side of a mask patch in pixels. Below 16, it stands for 16, because the mask must not
                be finer than the map.
        """
        strides = {self.sites[name].stride for name in self.blocks}
        below = [stride for stride in strides if stride <= min(_STRIDE, patch_size)]
        stride = max(below) if below else min(strides)
        at_stride = [name for name in self.blocks if self.sites[name].stride == stride]
        block = at_stride[-1]
        ends_here = self.output is None or self.output.stride == stride
        if block == self.blocks[-1] and ends_here:
            block = at_stride[max(0, round(_DEPTH * len(at_stride)) - 1)]
        return self.sites[self._outermost(block)]

    def _outermost(self, block: str) -> str:
        """The outermost module that ends with a block and gives a map of the same stride."""
        best = block
        for holder in _holders(block):
            inside = [name for name in self.blocks if name.startswith(f'{holder}.')]
            site = self.sites.get(holder)
            if inside[-1] == block and site is not None and site.stride == self.sites[block].stride:
                best = holder
        return best


def survey(network: nn.Module, size_hw: tuple[int, int], channels: int | None = None) -> Survey:
    """Find the feature maps of a network by one dry forward of an image; see :func:`.dry_run.dry_run`.

    Args:
        network: The network.
        size_hw: Height and width of an image that it takes, in pixels.
        channels: Number of channels of the image; None for :func:`.image_channels`.

    Raises:
        ValueError: If the network fails on such images, or no block gives a map. Names the blocks' outputs.
    """
    shape = (_IMAGES, channels or image_channels(network), *size_hw)
    return dry_run(network, shape, partial(_survey, size_hw=size_hw))


def _survey(network: nn.Module, images: Tensor, size_hw: tuple[int, int]) -> Survey:
    runs, sites, shapes, order = Counter(), {}, {}, []

    def note(name: str, _module: nn.Module, _args: tuple, output: object) -> None:
        runs[name] += 1
        order.append(name)
        shapes[name] = shape_text(output)
        sites.pop(name, None)
        if isinstance(output, (Tensor, tuple)) and (site := _site(name, output, size_hw)):
            sites[name] = site

    hooks = [
        module.register_forward_hook(partial(note, name)) for name, module in network.named_modules() if name
    ]
    with torch.no_grad():
        output = network(images)
    for hook in hooks:
        hook.remove()
    sites = {name: site for name, site in sites.items() if runs[name] == 1}
    last = output[-1] if isinstance(output, (tuple, list)) and output else output
    shapes[''] = shape_text(last)
    by_rule = [_ran(blocks(network, rule), order) for rule in (_in_container, _has_sibling)]
    if not any(by_rule):
        by_rule.append(_ran(blocks(network, _is_convolution), order))
    with_maps = [[name for name in names if name in sites] for names in by_rule]
    found = next((names for names in with_maps if names), None)
    if found is None:
        outputs = first_names([f'{name} {shapes[name]}' for names in by_rule for name in names])
        raise InputError(
            f'no block of {type(network).__name__} gives a feature map once in a forward pass: '
            f'{outputs or "it has no blocks"}. A map is (B, C, h, w), (B, h, w, C) or (B, n + h * w, C), '
            f'with the batch and the proportions of the images, here {tuple(images.shape)}'
        )
    return Survey(type(network).__name__, sites, tuple(found), shapes, _site('', last, size_hw))


def _ran(names: Sequence[str], order: Sequence[str]) -> list[str]:
    """Those of the names that ran, in the order in which they ended, each once."""
    wanted = {*names}
    return [name for name in dict.fromkeys(order) if name in wanted]


def _site(name: str, output: object, size_hw: tuple[int, int]) -> Site | None:
    feat = output[0] if isinstance(output, tuple) and output else output
    layout = _layout(feat, (_IMAGES, 0, *size_hw))
    if layout is None:
        return None
    feat_bchw = to_map(feat, layout, size_hw)
    rows_cols = tuple(feat_bchw.shape[2:])
    if rows_cols == (1, 1):
        return None
    return Site(name, layout, feat_bchw.shape[1], rows_cols, _stride(size_hw, rows_cols))


def _layout(feat: object, input_shape: Sequence[int]) -> str | None:
    if not isinstance(feat, Tensor) or not feat.is_floating_point() or feat.ndim not in (3, 4):
        return None
    return guess_layout(feat.shape, tuple(input_shape[2:])) if len(feat) == input_shape[0] else None


def _stride(size_hw: tuple[int, int], rows_cols: tuple[int, int]) -> int:
    """Pixels for one position: a power of two if padding explains the rest, else the ratio of the sides.

    Convolutions without padding give fewer rows than height / stride. Then it is the nearest power of two.
    """
    ratio = max(size / count for size, count in zip(size_hw, rows_cols, strict=True))
    power = 2 ** max(0, round(log2(ratio)))
    padded = all(ceil(size / power) == count for size, count in zip(size_hw, rows_cols, strict=True))
    return power if padded or not ratio.is_integer() else int(ratio)


def shape_text(output: object) -> str:
    """The shape of a feature, or the type of anything else, for messages."""
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__


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
    """Names of the modules that hold a module, at any depth, from the inside out."""
    while name := _parent(name):
        yield name


@contextmanager
def tapped(
    network: nn.Module,
    sites: Sequence[str],
    input_shape: Sequence[int],
    keep: Callable[[str, Tensor], None],
) -> Iterator[None]:
    """Hand each feature map of one forward pass to ``keep(site, feat_bchw)`` when it is made.

    Args:
        network: The network.
        sites: Names of sub-modules.
        input_shape: Shape of the images, (B, C, H, W).
        keep: Receives the maps. A later module may overwrite them in place.

    Raises:
        ValueError: If the network does not have a site, an output is not a map with more than one position,
            or a site does not run exactly once.
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
        if feat_bchw is None or feat_bchw.shape[2:].numel() == 1:
            raise InputError(
                f'the output of site {site} is not a map with more than one position: {shape_text(output)}'
            )
        runs[site] += 1
        keep(site, feat_bchw)

    hooks = [modules[site].register_forward_hook(partial(tap, site)) for site in sites]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    wrong = [f'{site} ({runs[site]} times)' for site in sites if runs[site] != 1]
    if wrong:
        raise InputError(f'each site has to run once in a forward pass, but: {", ".join(wrong)}')


def as_map(output: object, input_shape: Sequence[int]) -> Tensor | None:
    """The output of a module as a feature map (B, C, h, w), or None if it is not one.

    Args:
        output: A feature of any layout, or a tuple or list that begins with one.
        input_shape: Shape of the images, (B, C, H, W). A map has their batch size and proportions.
    """
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    layout = _layout(output, input_shape)
    return None if layout is None else to_map(output, layout, input_shape[2:])


def find_site(backbone: nn.Module, name: str) -> nn.Module:
    """The sub-module of a name; ValueError, with the nearest names, if there is none."""
    modules = {each: module for each, module in backbone.named_modules() if each}
    if name in modules:
        return modules[name]
    near = difflib.get_close_matches(name, modules, n=5, cutoff=0.4) or dict(backbone.named_children())
    raise InputError(
        f'token site {name!r} is not a sub-module of {type(backbone).__name__}; the nearest names are '
        f'{", ".join(near)}'
    )
