"""A2MIM: mask -> fill -> encode -> decode -> loss (Li et al., arXiv 2205.13943, Figure 4)."""

from collections.abc import Sequence
from contextlib import nullcontext

from mmpretrain.models.necks import SimMIMLinearDecoder
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from a2mim_mm.backbones.dry_run import image_channels
from a2mim_mm.backbones.fit import fit_parts
from a2mim_mm.backbones.token_layout import find_layout, to_map
from a2mim_mm.errors import InputError
from a2mim_mm.registry import MODELS

from .fill import Fill
from .mask_token import MaskToken
from .masking import mask_grid, resize_mask

_NECK = dict(type='a2mim_mm.LinearDecoder')
_HEAD = dict(type='a2mim_mm.A2MIMHead')
_MASK = dict(type='a2mim_mm.RandomPatchMask')
_TOKEN = dict(type='a2mim_mm.MaskToken')


@MODELS.register_module()
class A2MIM(BaseSelfSupervisor):
    """Architecture-Agnostic Masked Image Modeling.

    Takes any backbone whose last output is a feature map (B, C, h', w'), (B, h', w', C) or tokens
    (B, n + h' * w', C). Token, decoder and losses belong to this class: the keys of ``backbone.state_dict()``
    are those of the bare backbone. What neck and token leave out is found by one dry forward of the backbone;
    see :func:`fit_parts`.

    Args:
        backbone: Config of the encoder, or the module itself.
        neck: Config of the decoder, from a feature map to an image (B, C, H, W). The default is linear, as
            in Section 5.1.
        head: Config of the losses, an :class:`A2MIMHead`.
        mask: Config of the masking, a :class:`RandomPatchMask` or :class:`RectangleMask`.
        mask_token: Config of the token, a :class:`MaskToken`; None for no token.
        fill: What hidden pixels are filled with; see :class:`Fill`.
        image_size: Side of the images in pixels, or height and width, for the dry forward. The default is
            the size that the backbone is built for, or else 224.
        data_preprocessor: Config of the pre-processor. Of colour photos the network must see RGB.
        in_channels: Number C of channels of the images; None for :func:`.image_channels` of the backbone.
        init_cfg: Of mmengine's ``BaseModule``.

    Raises:
        ValueError: If something that is left out cannot be found, the mask patch does not divide
            ``image_size``, or the decoder or loss is for another number of channels.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module = _NECK,
        head: dict = _HEAD,
        mask: dict = _MASK,
        mask_token: dict | None = _TOKEN,
        fill: str = 'mean',
        image_size: int | tuple[int, int] | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        in_channels: int | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        backbone = backbone if isinstance(backbone, nn.Module) else MODELS.build(backbone)
        mask = MODELS.build(mask)
        if image_size is not None:
            mask_grid((image_size,) * 2 if isinstance(image_size, int) else image_size, mask.patch_size)
        channels = in_channels or image_channels(backbone)
        neck, mask_token, found = fit_parts(backbone, neck, mask_token, image_size, mask.patch_size, channels)
        super().__init__(
            backbone=backbone, neck=neck, head=head, data_preprocessor=data_preprocessor, init_cfg=init_cfg
        )
        self.in_channels = channels
        self._check_channels()
        self.found = found  # what the config left out, for the log
        self.mask = mask
        self.fill = Fill(fill, channels)
        self.mask_token: MaskToken | None = None
        if mask_token is not None:
            self.mask_token = MODELS.build(mask_token)
            self.mask_token.attach(self.backbone)

    def forward(
        self, inputs: list[Tensor], data_samples: list[DataSample] | None = None, mode: str = 'tensor'
    ):
        """Features, losses or predictions: ``mode`` is 'tensor', 'loss' or 'predict'."""
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return super().forward(inputs, data_samples, mode)

    def extract_feat(self, inputs: Tensor | list[Tensor]) -> tuple[Tensor, ...]:
        """Features of whole images (B, C, H, W), without mask and token."""
        return self.backbone(_images(inputs))

    def loss(self, inputs: list[Tensor], data_samples: list[DataSample]) -> dict[str, Tensor]:
        """The losses (:meth:`A2MIMHead.loss`) of one normalised batch (B, C, H, W), in a list.

        Each of the B samples carries ``mask_seed``, an integer that its mask follows from.

        Raises:
            ValueError: If a seed is missing, or the mask patch does not divide the images.
        """
        img_bchw = _images(inputs)
        mask_bhw = self._draw_mask(img_bchw, data_samples)
        mask_b1hw = resize_mask(mask_bhw, img_bchw.shape[2:])[:, None]
        pred_bchw = self.predict_pixels(img_bchw, mask_bhw, mask_b1hw)
        return self.head.loss(pred_bchw, img_bchw, mask_b1hw)

    def predict(self, inputs: list[Tensor], data_samples: list[DataSample]) -> list[DataSample]:
        """The losses of a batch as numbers, written into each of its samples."""
        losses = {name: value.item() for name, value in self.loss(inputs, data_samples).items()}
        for sample in data_samples:
            sample.set_data(losses)
        return data_samples

    def predict_pixels(
        self, img_bchw: Tensor, mask_bhw: Tensor, mask_b1hw: Tensor, use_token: bool = True
    ) -> Tensor:
        """Fill, encode with the token (or without it), decode: normalised images to normalised images.

        The mask comes on its grid, (B, h, w), and at the size of the images, (B, 1, H, W).

        Raises:
            ValueError: If the decoder's image is of another size.
        """
        filled_bchw = self.fill(img_bchw, mask_b1hw)
        with_token = self.mask_token is not None and use_token
        with self.mask_token.masked(mask_bhw) if with_token else nullcontext():
            feats = self.backbone(filled_bchw)
        feat_bchw = self._last_map(feats, mask_bhw)
        pred_bchw = self.neck(feat_bchw)
        if pred_bchw.shape != img_bchw.shape:
            raise InputError(
                f'the neck predicts {tuple(pred_bchw.shape)} from features {tuple(feat_bchw.shape)}, but the '
                f'images are {tuple(img_bchw.shape)}: encoder_stride must be the stride of the backbone, and '
                'divide the input'
            )
        return pred_bchw

    def _check_channels(self) -> None:
        """Refuse a decoder or pixel loss for another number of channels; the loss would be scaled wrongly."""
        for name, module in (('neck', self.neck), ('head.loss_spa', getattr(self.head, 'loss_spa', None))):
            channels = getattr(module, 'channel', None)
            if isinstance(module, SimMIMLinearDecoder):
                convolution, shuffle = module.decoder
                channels = convolution.out_channels // shuffle.upscale_factor**2
            if channels not in (None, self.in_channels):
                raise InputError(
                    f'{name}, a {type(module).__name__}, is for {channels} channels, but the backbone takes '
                    f"images of {self.in_channels}: write type='a2mim_mm."
                    f"{'LinearDecoder' if name == 'neck' else 'PixelL1Loss'}' and no number of channels"
                )

    def _last_map(self, feats: Tensor | Sequence[Tensor], mask_bhw: Tensor) -> Tensor:
        """The last output of the backbone as a map (B, C, h, w), also if it is tokens or channels-last."""
        name = type(self.backbone).__name__
        feat = feats[-1] if isinstance(feats, (tuple, list)) and feats else feats
        if not isinstance(feat, Tensor):
            raise InputError(f'{name} returns a {type(feats).__name__}: A2MIM needs a tensor, or several')
        if feat.ndim not in (3, 4):
            raise InputError(
                f'the last output of {name} is {tuple(feat.shape)}, not a map (B, C, h, w): leave out '
                "pooling and classifier; mmpretrain's ConvNeXt needs gap_before_final_norm=False, and its "
                "VisionTransformer needs out_type='featmap'"
            )
        channels = next((m.in_channels for m in self.neck.modules() if hasattr(m, 'in_channels')), None)
        if channels is None or (feat.ndim == 4 and feat.shape[1] == channels):
            return feat
        if channels not in feat.shape[1:]:
            raise InputError(
                f'neck.in_channels is {channels}, but the last output of {name} is {tuple(feat.shape)}: '
                f'write neck.in_channels={feat.shape[1 if feat.ndim == 4 else 2]}'
            )
        return to_map(feat, find_layout(feat.shape, channels, mask_bhw.shape[1:]), mask_bhw.shape[1:])

    def _draw_mask(self, img_bchw: Tensor, data_samples: list[DataSample]) -> Tensor:
        """The mask (B, h, w) that follows from the seeds of the samples, on the device of the images."""
        if not all('mask_seed' in sample for sample in data_samples or [{}]):
            raise InputError(
                "data samples carry no mask_seed: add dict(type='a2mim_mm.MaskSeed') to the pipeline, and "
                "'mask_seed' to algorithm_keys of PackInputs"
            )
        mask_bhw = self.mask.draw([sample.mask_seed for sample in data_samples], tuple(img_bchw.shape[2:]))
        return mask_bhw.to(img_bchw.device, non_blocking=True)


def _images(inputs: Tensor | list[Tensor]) -> Tensor:
    """The batch. mmpretrain's pre-processor gives a list of views, and here there is one."""
    return inputs[0] if isinstance(inputs, (list, tuple)) else inputs
