"""SparK, alone or with its decoder."""

from ..origin import Origin
from .convnext import CONVNEXT
from .torchvision import RESNET

ORIGINS = (
    Origin(260, 'spark', 'SparK, encoder alone', (RESNET, CONVNEXT)),
    Origin(
        270,
        'spark-pretraining',
        'SparK, with its decoder',
        (RESNET, CONVNEXT),
        prefix='sparse_encoder.sp_cnn.',
        outside=r'(?!sparse_encoder\.sp_cnn\.).*',
    ),
)
