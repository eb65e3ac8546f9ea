"""The table of what can be read: who wrote a checkpoint, and where in it the encoder is.

One row an origin. A new one is a row here, and a module in ``formats/`` if its names are new. Names are
matched after ``module.``, the prefix of data parallel training, was taken off.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .formats.convnext import ConvNeXtNaming, MMConvNeXtNaming, TimmConvNeXtNaming
from .formats.detectron2 import Detectron2Naming
from .formats.huggingface import HuggingFaceResNetNaming, HuggingFaceViTNaming
from .formats.mmpretrain_beit import MMBEiTNaming, OpenMixupNaming
from .formats.mmpretrain_vit import MMViTNaming
from .formats.resnet import MMResNetNaming, ResNetNaming
from .formats.swin import MMSwinNaming, SwinNaming, TimmSwinNaming
from .formats.timm_beit import TimmBEiTNaming
from .formats.timm_relpos import TimmRelPosNaming
from .formats.timm_resnet import TimmResNetNaming
from .formats.timm_vit import TimmViTNaming
from .naming import Naming

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INCEPTION = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
FILE = ''  # the entry of a file that is a state dict itself
_ENTRIES = (FILE, 'state_dict', 'model', 'module')

OPENMMLAB = (
    MMResNetNaming('mmpretrain ResNet'),
    MMViTNaming(),
    MMBEiTNaming(),
    MMConvNeXtNaming(),
    MMSwinNaming(),
)
RESNET = (ResNetNaming('torchvision ResNet'),)
TIMM = (  # of several that can hold an encoder, the first is written
    TimmResNetNaming(),
    TimmViTNaming(),
    TimmBEiTNaming(),
    TimmRelPosNaming(),
    TimmConvNeXtNaming(),
    TimmSwinNaming(),
)
HUGGINGFACE = (HuggingFaceViTNaming(), HuggingFaceResNetNaming('transformers ResNet'))
_CLASSIFIER = r'(head|fc|head\.fc)\.(weight|bias)'


@dataclass(frozen=True)
class Origin:
    """Where checkpoints of one kind keep the encoder.

    Args:
        name: For ``--from``.
        title: For messages.
        namings: What the names of the encoder can be.
        prefix: What they begin with.
        outside: Pattern of full names that are not of the encoder: decoder, mask token, projector, queue.
        sign: Pattern of a name that distinguishes the origin; None: the namings do.
        entries: Where in the file the state dict may be; the first that fits is taken.
        heads_by_width: Numbers of attention heads that differ from those that are usual for a width.
        mean_std: Normalisation of the images it was trained on, RGB in 0..1; None: there are several.
    """

    name: str
    title: str
    namings: tuple[Naming, ...]
    prefix: str = ''
    outside: str = r'(?!)'
    sign: str | None = None
    entries: tuple[str, ...] = _ENTRIES
    heads_by_width: Mapping[int, int] | None = None
    mean_std: tuple | None = IMAGENET

    def split(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]] | None:
        """The encoder's weights, and names of what else there is; None if this is of another origin."""
        outside = [name for name in state if re.fullmatch(self.outside, name)]
        inside = [name for name in state if name not in set(outside)]
        signed = self.sign is None or any(re.fullmatch(self.sign, name) for name in state)
        if not inside or not signed or not all(name.startswith(self.prefix) for name in inside):
            return None
        return {name.removeprefix(self.prefix): state[name] for name in inside}, outside


_ROWS = (
    Origin(
        'a2mim',
        'pre-training of a2mim_mm',
        OPENMMLAB,
        prefix='backbone.',
        outside=r'(?!backbone\.).*',
        sign=r'mask_token\.token',
    ),
    Origin(
        'openmixup',
        'OpenMixup, with the released code of A2MIM',
        (OpenMixupNaming(), *OPENMMLAB),
        prefix='backbone.',
        outside=r'(?!backbone\.).*|backbone\.mask_(token|gamma)',
        sign=r'backbone\.mask_gamma|neck\.decoder_pred\..*|ema_backbone_.*',
    ),
    Origin(
        'mmpretrain',
        'mmpretrain, mmselfsup, mmcls, mmdet or mmseg',
        OPENMMLAB,
        prefix='backbone.',
        outside=r'(?!backbone\.).*|backbone\.mask_token',
        mean_std=None,
    ),
    Origin(
        'mmpretrain-backbone',
        'backbone of mmpretrain, OpenMixup or a2mim_mm',
        (*OPENMMLAB, OpenMixupNaming()),
        outside=r'mask_(token|gamma)',
        mean_std=None,
    ),
    Origin('timm', 'timm', TIMM, outside=_CLASSIFIER, mean_std=None),
    Origin('torchvision', 'torchvision', RESNET, outside=r'fc\.(weight|bias)'),
    Origin(
        'mae',
        'facebookresearch MAE',
        (TimmViTNaming(),),
        outside=rf'mask_token|decoder_.*|{_CLASSIFIER}',
        sign=r'decoder_pred\.weight',
    ),
    Origin(
        'dinov2',
        'facebookresearch DINOv2',
        (TimmViTNaming(),),
        outside=r'mask_token|(head|linear_head|dino_head|ibot_head)\..*',
        sign=r'blocks\.\d+\.ls1\.gamma',
    ),
    Origin(
        'dinov2-training',
        'facebookresearch DINOv2, as training wrote it',
        (TimmViTNaming(),),
        prefix='backbone.',
        outside=r'backbone\.mask_token|(dino_head|ibot_head)\..*',
        sign=r'backbone\.blocks\.\d+\.ls1\.gamma',
        entries=('teacher', 'student'),
    ),
    Origin(
        'dinov2-teacher',
        'facebookresearch DINOv2, teacher and student in one',
        (TimmViTNaming(),),
        prefix='teacher.backbone.',
        outside=r'(?!teacher\.backbone\.).*|teacher\.backbone\.mask_token',
        sign=r'teacher\.backbone\.blocks\.\d+\.ls1\.gamma',
    ),
    Origin(
        'huggingface',
        'Hugging Face transformers, an encoder alone',
        HUGGINGFACE,
        outside=r'pooler\..*',
        mean_std=None,
    ),
    Origin(
        'huggingface-vit',
        'Hugging Face transformers: ViT or ViTMAE with a head or decoder',
        HUGGINGFACE[:1],
        prefix='vit.',
        outside=r'(?!vit\.).*|vit\.pooler\..*',
        mean_std=None,
    ),
    Origin(
        'huggingface-resnet',
        'Hugging Face transformers: ResNet with a classifier',
        HUGGINGFACE[1:],
        prefix='resnet.',
        outside=r'(?!resnet\.).*',
        mean_std=None,
    ),
    Origin('deit', 'facebookresearch DeiT', (TimmViTNaming(),), outside=_CLASSIFIER),
    Origin(
        'dino',
        'facebookresearch DINO',
        (TimmViTNaming(), *RESNET),
        prefix='backbone.',
        outside=r'head\..*',
        entries=('teacher', 'student'),
    ),
    Origin(
        'ibot',
        'bytedance iBOT',
        (TimmViTNaming(),),
        prefix='backbone.',
        outside=r'head\..*|backbone\.masked_embed',
        sign=r'backbone\.masked_embed',
        entries=('teacher', 'student'),
    ),
    Origin(
        'moco',
        'facebookresearch MoCo v1 or v2',
        RESNET,
        prefix='encoder_q.',
        outside=r'encoder_k\..*|queue|queue_ptr|encoder_q\.fc\..*',
    ),
    Origin(
        'moco-v3',
        'facebookresearch MoCo v3',
        (TimmViTNaming(), *RESNET),
        prefix='base_encoder.',
        outside=r'momentum_encoder\..*|predictor\..*|base_encoder\.(head|fc)\..*',
        heads_by_width={384: 12},  # source: moco-v3, vits.py, vit_small
    ),
    Origin(
        'simsiam',
        'facebookresearch SimSiam',
        RESNET,
        prefix='encoder.',
        outside=r'encoder\.fc\..*|predictor\..*',
    ),
    Origin(
        'swav',
        'facebookresearch SwAV',
        RESNET,
        outside=r'projection_head\..*|prototypes\..*',
        sign=r'prototypes\..*',
    ),
    Origin(
        'barlowtwins',
        'facebookresearch Barlow Twins',
        RESNET,
        prefix='backbone.',
        outside=r'projector\..*|bn\..*',
        sign=r'projector\..*',
    ),
    Origin(
        'simmim',
        'microsoft SimMIM',
        (TimmBEiTNaming(), SwinNaming()),
        prefix='encoder.',
        outside=r'decoder\..*|encoder\.mask_token',
        sign=r'decoder\..*',
    ),
    Origin(
        'simmim-finetuned',
        'microsoft SimMIM, fine-tuned, or Swin',
        (TimmBEiTNaming(), SwinNaming()),
        outside=_CLASSIFIER,
    ),
    Origin(
        'beit',
        'microsoft BEiT',
        (TimmBEiTNaming(),),
        outside=rf'mask_token|lm_head\..*|{_CLASSIFIER}',
        mean_std=INCEPTION,  # source: unilm, beit/datasets.py, without --imagenet_default_mean_and_std
    ),
    Origin('convnext', 'facebookresearch ConvNeXt', (ConvNeXtNaming(),), outside=r'head\.(weight|bias)'),
    Origin('spark', 'SparK, encoder alone', (*RESNET, ConvNeXtNaming())),
    Origin(
        'spark-pretraining',
        'SparK, with its decoder',
        (*RESNET, ConvNeXtNaming()),
        prefix='sparse_encoder.sp_cnn.',
        outside=r'(?!sparse_encoder\.sp_cnn\.).*',
    ),
    Origin('detectron2', 'detectron2', (Detectron2Naming(),), outside=r'(stem\.fc|linear)\..*'),
)
ORIGINS = {origin.name: origin for origin in _ROWS}
