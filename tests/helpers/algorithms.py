"""Small A2MIM algorithms, ResNet and ViT, and batches for them."""

import copy

import pytest
import torch
from mmpretrain.structures import DataSample

from . import reference

SIZE = (64, 96)
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]

RESNET = dict(
    backbone=dict(type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=8),
    neck=dict(type='mmpretrain.SimMIMLinearDecoder', in_channels=64, encoder_stride=32),
    mask_token=dict(type='a2mim_mm.MaskToken', channels=32, site='layer3'),
)
VIT = dict(
    backbone=dict(
        type='a2mim_mm.A2MIMViT',
        arch=dict(embed_dims=48, num_layers=2, num_heads=2, feedforward_channels=96),
        img_size=SIZE,
        patch_size=8,
        out_type='featmap',
    ),
    neck=dict(type='mmpretrain.SimMIMLinearDecoder', in_channels=48, encoder_stride=8),
    mask_token=dict(type='a2mim_mm.MaskToken', channels=48, site='layers.0'),
)
PARTS = dict(resnet=RESNET, vit=VIT)


def build(name, seed=0, token_std=1.0, **changes):
    """An algorithm with fixed random weights, and token values that are not small unless asked."""
    from a2mim_mm.models import A2MIM

    torch.manual_seed(seed)
    config = dict(
        head=dict(type='a2mim_mm.A2MIMHead'),
        mask=dict(type='a2mim_mm.RandomPatchMask', patch_size=16, ratio=0.6),
        data_preprocessor=dict(type='mmpretrain.SelfSupDataPreprocessor', mean=MEAN, std=STD, to_rgb=True),
    )
    algorithm = A2MIM(**{**config, **PARTS[name], **changes})
    with torch.no_grad():
        for key, param in algorithm.named_parameters():
            # zeros until init_weights(), and tables of zeros even after it: positions would look alike
            if key.endswith(('pos_embed', 'cls_token', 'relative_position_bias_table')):
                param.normal_(std=0.5)
        if algorithm.mask_token is not None:
            algorithm.mask_token.token.normal_(std=token_std)
    return algorithm


def photos(batch=3, size=SIZE, seed=0):
    """Smooth colour pictures in 0..1, (B, 3, H, W)."""
    coarse = torch.rand(batch, 3, 4, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size, mode='bilinear', align_corners=True)


def normalise(photos_b3hw):
    """What the network is fed, from RGB in 0..1."""
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (MEAN, STD))
    return (photos_b3hw * 255 - mean) / std


def batch(batch=3, size=SIZE, seed=0):
    """Inputs as mmpretrain's pre-processor hands them over (a list of one), and samples with seeds."""
    samples = [DataSample() for _ in range(batch)]
    for index, sample in enumerate(samples):
        sample.set_field(100 * seed + index, 'mask_seed')
    return [normalise(photos(batch, size, seed))], samples


def total(losses):
    """The number that is minimised."""
    return sum(losses.values())


BOTH = pytest.mark.parametrize('name', ['resnet', 'vit'])


def by_hand(algorithm, img, mask_bhw, use_token=True):
    """Prediction of a copy whose token was taken out, with fill, token and decoder applied here."""
    twin = copy.deepcopy(algorithm)
    token = twin.mask_token.token
    twin.mask_token.remove()
    pixels = torch.tensor(reference.resize_mask(mask_bhw, img.shape[2:]))[:, None]
    filled = torch.tensor(reference.mean_fill(img.double().numpy(), pixels.numpy())).float()
    net, site_grid = twin.backbone, (img.shape[2] // net_stride(twin), img.shape[3] // net_stride(twin))
    hidden = torch.tensor(reference.resize_mask(mask_bhw, site_grid)).float()
    if hasattr(net, 'layer3'):
        z = net.layer2(net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(filled))))))
        z = net.layer3(z)
        z = z + (token.view(1, -1, 1, 1) * hidden[:, None] if use_token else 0)
        feat = net.layer4(z)
    else:

        def add_token(module, args, out):
            cls, patches = out[:, :1], out[:, 1:]
            return torch.cat([cls, patches + token * hidden.flatten(1)[..., None]], dim=1)

        if use_token:
            net.layers[0].register_forward_hook(add_token)
        feat = net(filled)[-1]
    return twin, twin.neck(feat)


def net_stride(algorithm):
    """Pixels to a position of the site: stage 3 of ResNet, patches of ViT."""
    return 16 if hasattr(algorithm.backbone, 'layer3') else 8
