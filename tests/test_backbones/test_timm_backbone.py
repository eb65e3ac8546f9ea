"""Networks of timm: under timm's names, with timm's features, and never from the network unless asked."""

import copy

import pytest
import torch
from mmengine.registry import MODELS

import a2mim_mm
from a2mim_mm.backbones import timm_backbone
from a2mim_mm.backbones.sites import as_map

timm = pytest.importorskip('timm')
# Layouts of features, and whether parameters behind the features exist: (name, options, frozen)
NETWORKS = [
    ('resnet10t', {}, False),
    ('convnextv2_atto', {}, True),
    ('swin_tiny_patch4_window7_224', dict(img_size=64, window_size=2), False),
    ('deit_tiny_distilled_patch16_224', dict(img_size=64), False),
    ('eva02_tiny_patch14_224', dict(img_size=56), True),
]


@pytest.mark.parametrize('name, options, frozen', NETWORKS, ids=[case[0] for case in NETWORKS])
def test_features_and_names_are_those_of_timm(name, options, frozen):
    network = timm_backbone(name, **options).eval()
    plain = timm.create_model(name, num_classes=0, **options).eval()
    plain.load_state_dict(network.state_dict())
    images = torch.rand(2, 3, *[options.get('img_size', 64)] * 2)
    with torch.no_grad():
        (feat_bchw,) = network(images)
        assert torch.equal(feat_bchw, as_map(plain.forward_features(images), images.shape))
    assert {key for key, _ in network.named_parameters()} == {key for key, _ in plain.named_parameters()}
    assert not all(param.requires_grad for param in network.parameters()) == frozen


def test_weights_stay_as_timm_drew_them():
    torch.manual_seed(0)
    network = MODELS.build(dict(type='a2mim_mm.TimmBackbone', model_name='vit_tiny_patch16_224', img_size=64))
    before = copy.deepcopy(network.state_dict())
    network.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_stages():
    network = a2mim_mm.TimmBackbone(
        'swin_tiny_patch4_window7_224', img_size=64, window_size=2, out_indices=(1, 3)
    )
    shapes = [tuple(feat.shape) for feat in network(torch.rand(1, 3, 64, 64))]
    assert shapes == [(1, 192, 8, 8), (1, 768, 2, 2)]


def test_nothing_is_downloaded_unless_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(timm.models._builder, 'load_pretrained', lambda *_, **__: asked.append('weights'))
    timm_backbone('resnet10t')
    assert asked == []
    timm_backbone('resnet10t', pretrained=True)
    assert asked == ['weights']


@pytest.mark.parametrize(
    'name, options, words',
    [
        ('resnet19', {}, "has no model 'resnet19'; the nearest names are resnet18"),
        ('hf-hub:timm/resnet18', {}, 'has no model'),
        ('local-dir:/tmp', {}, 'has no model'),
        (7, {}, 'has no model 7'),
        ('resnet10t', dict(img_size=64), 'takes images of any size: leave out img_size'),
        ('resnet10t', dict(num_classes=10), 'TimmBackbone takes no num_classes'),
        ('resnet10t', dict(pretrained_cfg=dict(file='x')), 'TimmBackbone takes no pretrained_cfg'),
        ('resnet10t', dict(norm_layer=dict(type='x')), 'TimmBackbone takes no norm_layer'),
        ('resnet10t', dict(no_such=1), 'timm cannot build resnet10t.*no_such'),
    ],
)
def test_what_is_refused(name, options, words):
    with pytest.raises(ValueError, match=words):
        timm_backbone(name, **options)
