"""Finds what a config leaves out: site and width of the mask token, shape of the decoder."""

import inspect

from torch import nn

from a2mim_mm.errors import InputError
from a2mim_mm.registry import MODELS

from .dry_run import input_size
from .sites import Site, Survey, find_site, survey

AUTO = 'auto'


def fit_parts(
    backbone: nn.Module,
    neck: dict | nn.Module,
    mask_token: dict | None,
    image_size: int | tuple[int, int] | None,
    patch_size: int,
    channels: int,
) -> tuple[dict | nn.Module, dict | None, str]:
    """Complete the configs of decoder and token. If they leave out anything, the backbone runs once, dry.

    Args:
        backbone: The encoder.
        neck: The decoder. Its ``in_channels`` and ``encoder_stride`` are found, if its class has them. Its
            ``out_channels`` are those of the images.
        mask_token: The token; None for no token. Its ``channels`` are found, and its ``site`` if that is
            'auto' or left out; see :meth:`.Survey.token_site`.
        image_size: Height and width of the images in pixels; None for :func:`.input_size`.
        patch_size: Side of a mask patch in pixels. The site's stride is not larger.
        channels: Number of channels of the images.

    Returns:
        The completed configs of decoder and token, and what was found, as text.

    Raises:
        ValueError: If the backbone has no feature map, or its last output is not one; if the site is not one;
            if channels that the config gives are not those of the site; or if the decoder's image would be
            of another size.
    """
    if _leaves_out(neck, 'out_channels'):
        neck = {**neck, 'out_channels': channels}
    unfit_neck = [name for name in ('in_channels', 'encoder_stride') if _leaves_out(neck, name)]
    unfit_token = mask_token is not None and (
        mask_token.get('site', AUTO) == AUTO or 'channels' not in mask_token
    )
    if not unfit_neck and not unfit_token:
        return neck, mask_token, ''
    size_hw = (image_size, image_size) if isinstance(image_size, int) else image_size or input_size(backbone)
    try:
        found = survey(backbone, tuple(size_hw), channels)
    except InputError as error:
        raise InputError(
            f'{error}. A2MIM finds by itself what neither neck (in_channels, encoder_stride) nor mask_token '
            '(site, channels) say'
        ) from error
    texts = []
    if unfit_token:
        site = _site(backbone, found, mask_token.get('site', AUTO), patch_size)
        mask_token = {**mask_token, **_of_site(site, mask_token)}
        texts.append(f'token added after {site.name} (stride {site.stride}, {site.channels} channels)')
    if unfit_neck:
        output = _output(found, size_hw)
        values = dict(in_channels=output.channels, encoder_stride=output.stride)
        neck = {**neck, **{name: values[name] for name in unfit_neck}}
        shape = f'{neck.get("out_channels", 3)} x {output.stride} x {output.stride}'
        texts.append(f'decoder {output.channels} -> {shape}')
    return neck, mask_token, '; '.join(texts)


def _leaves_out(neck: dict | nn.Module, name: str) -> bool:
    """Whether the config of a decoder lacks an argument that its class has."""
    if isinstance(neck, nn.Module) or name in neck:
        return False
    kind = neck['type']
    if isinstance(kind, str):
        with MODELS.switch_scope_and_registry(scope=None) as registry:
            kind = registry.get(kind)
    return kind is not None and name in inspect.signature(kind).parameters


def _site(backbone: nn.Module, found: Survey, name: str, patch_size: int) -> Site:
    if name == AUTO:
        return found.token_site(patch_size)
    find_site(backbone, name)
    if name in found.sites:
        return found.sites[name]
    output = f'gives {found.shapes[name]}' if name in found.shapes else 'does not run'
    raise InputError(
        f'the token site {name!r} {output}: it has to give a feature map, once in a forward pass. '
        f'site={AUTO!r} finds {found.token_site(patch_size).name!r}'
    )


def _of_site(site: Site, mask_token: dict) -> dict:
    """Arguments of a token at a site."""
    if mask_token.get('channels', site.channels) != site.channels:
        raise InputError(
            f'mask_token.channels is {mask_token["channels"]}, but {site.name} has {site.channels}: leave it '
            'out'
        )
    return dict(site=site.name, channels=site.channels, layout=mask_token.get('layout', site.layout))


def _output(found: Survey, size_hw: tuple[int, int]) -> Site:
    """The last output, from which the decoder predicts."""
    output = found.output
    if output is None:
        raise InputError(
            f'the last output of {found.network} is {found.shapes[""]}, not a feature map: leave out pooling '
            "and classifier. mmpretrain's ConvNeXt needs gap_before_final_norm=False, and its "
            "VisionTransformer needs out_type='featmap'"
        )
    decoded = tuple(count * output.stride for count in output.size_hw)
    if decoded != tuple(size_hw):
        raise InputError(
            f'the last output of {found.network} is {output.size_hw[0]} x {output.size_hw[1]} at stride '
            f'{output.stride}, which decodes to {decoded[0]} x {decoded[1]} pixels and not to the '
            f'{size_hw[0]} x {size_hw[1]} of the image: the stride must divide the sides of the image '
            '(image_size)'
        )
    return output
