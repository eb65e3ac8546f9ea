"""Which origin wrote a checkpoint, told from key lists as the authors' code writes them."""

import random
from functools import cache

import pytest
import torch
from helpers import peers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmpretrain.models import BEiTPretrainViT, ConvNeXt, SwinTransformer

from a2mim_mm.checkpoints import CheckpointError
from a2mim_mm.convert import ORIGINS, ConversionError
from a2mim_mm.convert.detect import detect
from a2mim_mm.convert.entries import state_dicts
from a2mim_mm.convert.families import resnet
from a2mim_mm.convert.formats import openmmlab
from a2mim_mm.convert.naming import Hints

W = peers.WIDTH
HINTS = Hints(heads=peers.HEADS)
INDEX = 'relative_position_index'
FUZZ = settings(deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def tensors(*names, shape=(3,)):
    """Random tensors by names."""
    return {name: torch.rand(shape) for name in names}


def prefixed(prefix, weights):
    """Weights with something in front of their names."""
    return {prefix + name: tensor for name, tensor in weights.items()}


def other(weights):
    """Weights of the same names and shapes, and other values."""
    return {name: tensor + 1 for name, tensor in weights.items()}


def batch_norm(name, affine=True):
    """Names of a BatchNorm."""
    buffers = [f'{name}.{part}' for part in ('running_mean', 'running_var', 'num_batches_tracked')]
    return buffers + [f'{name}.{part}' for part in ('weight', 'bias') if affine]


def linear(name):
    """Names of a linear layer."""
    return [f'{name}.weight', f'{name}.bias']


def block(name):
    """Names of a timm block, such as one of MAE's decoder."""
    parts = ('norm1', 'attn.qkv', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2')
    return [each for part in parts for each in linear(f'{name}.{part}')]


def random_weights(network, seed=0):
    """State dict of a network, random in every number."""
    return peers.weights_of(peers.randomised(network, seed))


R18 = peers.without_classifier(random_weights(peers.torchvision_resnet(18)))
VIT = random_weights(peers.timm_vit())
HF_VIT = peers.huggingface_vit(VIT)
DINO = random_weights(peers.timm_vit(init_values=0.1))
VIT_MEAN = random_weights(peers.timm_vit(global_pool='avg'))
BEIT = random_weights(peers.timm_beit(use_rel_pos_bias=False, use_shared_rel_pos_bias=True))
BEIT_TUNED = random_weights(peers.timm_beit(global_pool='avg'))
RELPOS = random_weights(peers.timm_relpos())
MM_VIT = random_weights(peers.mm_vit())
MM_BEIT = random_weights(peers.mm_beit(use_abs_pos_emb=True))
MM_CAE = random_weights(peers.mm_beit(use_abs_pos_emb=True, use_rel_pos_bias=False))
MM_SHARED = random_weights(
    BEiTPretrainViT(arch=peers.ARCH, img_size=peers.SIZE, patch_size=peers.PATCH, layer_scale_init_value=0.1)
)
MM_NEXT = random_weights(ConvNeXt(arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 24, 32]), out_indices=(3,)))
MM_SWIN = random_weights(
    SwinTransformer(arch=dict(embed_dims=12, depths=[2, 2, 2, 2], num_heads=[1, 2, 3, 4]), img_size=224)
)


def facebook_convnext(weights):
    """mmpretrain's ConvNeXt by the names of its authors."""
    pairs = (('depthwise_conv', 'dwconv'), ('pointwise_conv', 'pwconv'), ('norm3', 'norm'))
    renamed = {}
    for name, tensor in weights.items():
        for theirs, ours in pairs:
            name = name.replace(theirs, ours)
        renamed[name] = tensor
    return renamed


def by_detectron2(weights):
    """torchvision's ResNet by the names of detectron2."""
    renamed = {}
    for name, tensor in weights.items():
        name = name if 'layer' in name else f'stem.{name}'
        for i in (4, 3, 2, 1):
            name = name.replace(f'layer{i}', f'res{i + 1}').replace(f'bn{i}', f'conv{i}.norm')
        renamed[name.replace('downsample.0', 'shortcut').replace('downsample.1', 'shortcut.norm')] = tensor
    return renamed


def ema_buffers(weights):
    """What mmcv's EMAHook adds to a model: copies of parameters by flat names."""
    return {
        f'ema_{name.replace(".", "_")}': tensor + 1
        for name, tensor in weights.items()
        if not name.endswith(('running_mean', 'running_var', 'num_batches_tracked', INDEX))
    }


BEIT_INDEX = {f'rel_pos_bias.{INDEX}': MM_SHARED[f'rel_pos_bias.{INDEX}']}
MAE_DECODER = tensors(
    'mask_token', 'decoder_pos_embed', *linear('decoder_embed'), *block('decoder_blocks.0'),
    *linear('decoder_norm'), *linear('decoder_pred'),
)  # fmt: skip
DINO_HEAD = tensors(
    *linear('head.mlp.0'), *linear('head.mlp.2'), 'head.last_layer.weight_g', 'head.last_layer.weight_v'
)
MOCO_QUEUE = {'queue': torch.rand(4, 8), 'queue_ptr': torch.zeros(1, dtype=torch.int64)}
MOCO_V3_HEAD = tensors('head.0.weight', *batch_norm('head.1'), 'head.3.weight', *batch_norm('head.4', False))
OPENMIXUP_NECK = tensors(*linear('neck.decoder_pred.0'))
MM_ONLINE_NECK = tensors(*linear('neck.fc0'), *batch_norm('neck.bn0'), *linear('head.predictor.fc0'))
HF_RESNET = peers.huggingface_resnet(R18)
NEXT, R18_OF_D2 = facebook_convnext(MM_NEXT), by_detectron2(R18)
FC, HEAD = tensors(*linear('fc')), tensors(*linear('head'))


def trained(encoder, *others, prefix='backbone.'):
    """A training's file: the encoder, and weights beside it."""
    state = prefixed(prefix, encoder)
    for weights in others:
        state |= weights
    return dict(state_dict=state)


MOCO_HEAD = tensors(*linear('fc.0'), *linear('fc.2'))
MOCO_V3_PREDICTOR = prefixed('module.', tensors('predictor.0.weight', *batch_norm('predictor.1')))
SIMSIAM = prefixed('encoder.', R18 | tensors('fc.0.weight', *batch_norm('fc.1'), *linear('fc.6'))) | tensors(
    'predictor.0.weight', *batch_norm('predictor.1'), *linear('predictor.3')
)
SWAV_HEAD = tensors(*linear('projection_head.0'), *batch_norm('projection_head.1'), 'prototypes.weight')
BARLOW_HEAD = tensors('projector.0.weight', *batch_norm('projector.1'), *batch_norm('bn', False))
SPARK_DECODER = tensors(
    'mask_tokens.0', *linear('densify_norms.0'), 'dense_decoder.dec.0.up_sample.weight'
) | {'imn_m': torch.zeros(1, 3, 1, 1), 'config': {'sbn': True}}
IBOT_TOKEN = {'backbone.masked_embed': torch.zeros(1, W)}
DETECTRON2_FILE = R18_OF_D2 | tensors(*linear('stem.fc.0'), *linear('stem.fc.2'))
STEPS = torch.zeros(())
BEIT_FILE = BEIT | BEIT_INDEX | tensors('mask_token')
# Origin: what the files hold, and of which weights the encoder is.
FILES = {
    'a2mim': [
        (
            trained(R18, tensors(*linear('neck.decode.0'), 'mask_token.token'))
            | dict(meta={}, message_hub={}),
            R18,
        ),
        (trained(MM_VIT, tensors('mask_token.token')), MM_VIT),
    ],
    'openmixup': [
        (
            trained(MM_BEIT, tensors('backbone.mask_token', 'backbone.mask_gamma'), OPENMIXUP_NECK)
            | dict(meta={}, optimizer={'state': {}}),
            MM_BEIT,
        ),
        (trained(R18, prefixed('module.', OPENMIXUP_NECK), prefix='module.backbone.'), R18),
        (trained(R18, ema_buffers(prefixed('backbone.', R18))), R18),
        (trained(MM_NEXT, OPENMIXUP_NECK), MM_NEXT),
    ],
    'mmpretrain': [
        (trained(MM_VIT, tensors('neck.mask_token', *linear('neck.decoder_embed'))), MM_VIT),
        (
            trained(
                R18,
                MOCO_QUEUE,
                tensors(*linear('neck.mlp.0')),
                prefixed('encoder_k.module.0.', other(R18)),
                {'encoder_k.steps': STEPS},
            ),
            R18,
        ),
        (
            trained(
                R18,
                MM_ONLINE_NECK,
                prefixed('target_net.module.0.', other(R18)),
                prefixed('momentum_encoder.module.0.', other(R18)),
                {'target_net.steps': STEPS},
            ),
            R18,
        ),
        (trained(R18, tensors('head.loss_module.prototypes.weight')), R18),
        (
            trained(MM_SHARED, tensors(*linear('head.cls_head'), 'target_generator.blocks.input.w')),
            {name: tensor for name, tensor in MM_SHARED.items() if name != 'mask_token'},
        ),
        (trained(MM_CAE, prefixed('teacher.', other(MM_CAE)), tensors('neck.mask_token')), MM_CAE),
        (trained(MM_VIT, tensors('backbone.mask_token', *linear('neck.fc'))), MM_VIT),
        (
            trained(R18, prefixed('encoder_q.0.', R18), prefixed('encoder_k.0.', other(R18)), MOCO_QUEUE),
            R18,
        ),
        (trained(MM_SWIN, tensors('backbone.mask_token', *linear('neck.decoder.0'))), MM_SWIN),
        (trained(R18, tensors(*linear('head.fc'))), R18),
        (
            trained(R18, tensors(*linear('rpn_head.rpn_conv')))
            | dict(ema_state_dict=prefixed('module.backbone.', other(R18)) | {'steps': STEPS}),
            R18,
        ),
    ],
    'mmpretrain-backbone': [
        (dict(state_dict=R18, author='openmixup'), R18),
        (dict(state_dict=MM_BEIT | tensors('mask_token', 'mask_gamma')), MM_BEIT),
        (MM_VIT, MM_VIT),
        (dict(state_dict=MM_NEXT), MM_NEXT),
        (MM_SWIN, MM_SWIN),
    ],
    'timm': [
        (R18 | FC, R18),
        (VIT | HEAD, VIT),
        (VIT_MEAN | HEAD, VIT_MEAN),
        (BEIT_TUNED, BEIT_TUNED),
        (RELPOS | HEAD, RELPOS),
        (trained(VIT, prefix='module.'), VIT),
    ],
    'torchvision': [(R18 | FC, R18), (trained(R18 | FC, prefix='module.') | dict(best_acc1=0.5), R18)],
    'mae': [(dict(model=VIT | MAE_DECODER, epoch=3), VIT)],
    'deit': [(dict(model=VIT | HEAD), VIT), (dict(model=VIT_MEAN | HEAD), VIT_MEAN), (dict(model=VIT), VIT)],
    'dino': [
        (
            dict(
                student=prefixed('module.', prefixed('backbone.', other(VIT)) | DINO_HEAD),
                teacher=prefixed('backbone.', VIT) | DINO_HEAD,
                optimizer={},
                epoch=1,
                dino_loss={'center': torch.zeros(1, 8)},
            ),
            VIT,
        ),
        (
            dict(
                student=prefixed('module.', prefixed('backbone.', other(R18)) | DINO_HEAD),
                teacher=prefixed('module.', prefixed('backbone.', R18) | DINO_HEAD),
            ),
            R18,
        ),
    ],
    'ibot': [
        (
            dict(
                student=prefixed('module.', prefixed('backbone.', other(VIT)) | IBOT_TOKEN),
                teacher=prefixed('backbone.', VIT)
                | IBOT_TOKEN
                | DINO_HEAD
                | tensors('head.last_layer2.weight_g'),
            ),
            VIT,
        )
    ],
    'moco': [
        (
            trained(
                R18 | MOCO_HEAD,
                prefixed('module.encoder_k.', other(R18) | MOCO_HEAD),
                prefixed('module.', MOCO_QUEUE),
                prefix='module.encoder_q.',
            )
            | dict(epoch=1, arch='resnet18'),
            R18,
        ),
        (trained(R18 | FC, prefixed('module.encoder_k.', other(R18)), prefix='module.encoder_q.'), R18),
    ],
    'moco-v3': [
        (
            trained(
                VIT | MOCO_V3_HEAD,
                prefixed('module.momentum_encoder.', other(VIT) | MOCO_V3_HEAD),
                MOCO_V3_PREDICTOR,
                prefix='module.base_encoder.',
            ),
            VIT,
        ),
        (
            trained(
                R18 | tensors('fc.0.weight', *batch_norm('fc.1')),
                prefixed('module.momentum_encoder.', other(R18)),
                prefix='module.base_encoder.',
            ),
            R18,
        ),
    ],
    'simsiam': [(trained(SIMSIAM, prefix='module.'), R18)],
    'swav': [
        (prefixed('module.', R18 | SWAV_HEAD), R18),
        (
            trained(R18, tensors(*linear('projection_head.0'), 'prototypes.prototypes0.weight'), prefix=''),
            R18,
        ),
    ],
    'barlowtwins': [(dict(model=prefixed('module.', prefixed('backbone.', R18) | BARLOW_HEAD)), R18)],
    'simmim': [
        (dict(model=prefixed('encoder.', BEIT_FILE) | tensors(*linear('decoder.0'))), BEIT | BEIT_INDEX)
    ],
    'simmim-finetuned': [(dict(model=BEIT_TUNED | HEAD), BEIT_TUNED)],
    'beit': [
        (dict(model=BEIT_FILE | tensors(*linear('lm_head'))), BEIT | BEIT_INDEX),
        (dict(module=BEIT_FILE), BEIT | BEIT_INDEX),
    ],
    'convnext': [(dict(model=NEXT | HEAD), NEXT)],
    'spark': [(R18, R18), (dict(module=R18), R18)],
    'spark-pretraining': [
        (
            dict(
                module=prefixed('sparse_encoder.sp_cnn.', R18) | SPARK_DECODER,
                arch='resnet18',
                args='Namespace()',
            ),
            R18,
        )
    ],
    'detectron2': [
        (
            dict(
                model={name: tensor.numpy() for name, tensor in DETECTRON2_FILE.items()},
                __author__='MOCO',
                matching_heuristics=True,
            ),
            R18_OF_D2,
        ),
        (dict(model=R18_OF_D2 | tensors(*linear('linear'))), R18_OF_D2),
    ],
    'dinov2': [(DINO | tensors('mask_token'), DINO)],
    'dinov2-training': [
        (dict(teacher=prefixed('backbone.', DINO) | tensors('dino_head.mlp.0.weight')), DINO)
    ],
    'dinov2-teacher': [
        (prefixed('teacher.backbone.', DINO) | prefixed('student.backbone.', other(DINO)), DINO)
    ],
    'huggingface': [(HF_VIT | tensors(*linear('pooler.dense')), HF_VIT), (HF_RESNET, HF_RESNET)],
    'huggingface-vit': [(prefixed('vit.', HF_VIT) | tensors('decoder.mask_token'), HF_VIT)],
    'huggingface-resnet': [(prefixed('resnet.', HF_RESNET) | tensors(*linear('classifier.1')), HF_RESNET)],
}
CASES = [(origin, i) for origin, files in FILES.items() for i in range(len(files))]


def family_of(weights):
    """The family of an encoder, by a name that only it has."""
    signs = dict(layer1='ResNet', res2='ResNet', embedder='ResNet', downsample_layers='ConvNeXt')
    found = {signs.get(name.partition('.')[0]) for name in weights} - {None}
    swin = any('.w_msa.' in name for name in weights)
    return found.pop() if found else 'SwinTransformer' if swin else 'A2MIMViT'


def names_in(checkpoint):
    """Number of weights in the state dict that is read."""
    entries = state_dicts(checkpoint, 'x')
    return {name: len(weights) for name, weights in entries.items()}


def equal_pivots(first, second):
    """Whether two encoders are the same network with the same weights."""
    return first.cfg == second.cfg and peers.same_weights(first.weights, second.weights)


@pytest.fixture(scope='module', autouse=True)
def one_network():
    """Builds the network whose names a ResNet is held against once, not at each reading."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, 'torchvision_resnet', cache(resnet.torchvision_resnet))
        yield


def test_every_origin_has_a_file_here():
    assert FILES.keys() == ORIGINS.keys()


@pytest.mark.parametrize(('origin', 'i'), CASES)
def test_files_are_told_by_their_names(origin, i):
    checkpoint, weights = FILES[origin][i]
    found = detect(checkpoint, 'x.pth', hints=HINTS)
    assert origin in (found.origin.name, *found.also)
    assert peers.same_weights(found.weights, weights)
    assert found.encoder.family == family_of(weights)
    assert found.entry in ('', 'state_dict', 'model', 'module', 'teacher')
    inside = names_in(checkpoint)[found.entry]
    beside = [name for name in found.outside if name.endswith(' weights')]
    assert len(found.outside) - len(beside) == inside - len(weights)
    named = detect(checkpoint, 'x.pth', origin, HINTS)
    assert named.origin.name == origin and equal_pivots(named.encoder, found.encoder)


@pytest.mark.parametrize(('origin', 'i'), CASES)
def test_an_origin_that_did_not_write_a_file_refuses_it_or_reads_the_same(origin, i):
    checkpoint = FILES[origin][i][0]
    found = detect(checkpoint, 'x.pth', hints=HINTS)
    agree = {found.origin.name, *found.also}
    for name in ORIGINS:
        if name in agree:
            continue
        with pytest.raises(ConversionError):
            detect(checkpoint, 'x.pth', name, HINTS)


def test_the_origin_that_only_one_sign_tells_is_named_alone():
    for origin in (
        'a2mim',
        'mae',
        'ibot',
        'moco',
        'moco-v3',
        'simsiam',
        'swav',
        'detectron2',
        'spark-pretraining',
    ):
        found = detect(FILES[origin][0][0], 'x.pth', hints=HINTS)
        assert found.origin.name == origin
        assert not found.also or set(found.also) <= {'mmpretrain', 'dino'}


@pytest.mark.parametrize('chosen', ['teacher', 'student'])
@pytest.mark.parametrize('origin', ['dino', 'ibot'])
def test_the_teacher_is_read_unless_the_student_is_asked_for(origin, chosen):
    checkpoint = FILES[origin][0][0]
    expected = VIT if chosen == 'teacher' else other(VIT)
    assert peers.same_weights(detect(checkpoint, 'x', hints=HINTS, entry=chosen).weights, expected)
    assert peers.same_weights(detect(checkpoint, 'x', hints=HINTS).weights, VIT)
    assert peers.same_weights(detect(dict(reversed(checkpoint.items())), 'x', hints=HINTS).weights, VIT)
    alone = {chosen: checkpoint[chosen]}
    assert peers.same_weights(detect(alone, 'x', hints=HINTS).weights, expected)


def test_what_lies_beside_the_entry_is_told():
    found = detect(FILES['dino'][0][0], 'x', hints=HINTS)
    assert any(note.startswith('student: ') for note in found.outside)


def test_an_entry_that_is_not_there_is_refused():
    with pytest.raises(ConversionError, match=r"x has no state dict 'ema'; it has .*'teacher'"):
        detect(FILES['dino'][0][0], 'x', hints=HINTS, entry='ema')


def test_the_average_of_weights_is_read_when_it_is_asked_for():
    state = prefixed('backbone.', R18)
    average = prefixed('backbone.', other(R18))
    checkpoint = dict(state_dict=state | ema_buffers(state))
    plain, averaged = detect(checkpoint, 'x'), detect(checkpoint, 'x', entry='ema')
    assert peers.same_weights(plain.weights, R18)
    for name, tensor in averaged.weights.items():
        buffer = name.endswith(('running_mean', 'running_var', 'num_batches_tracked'))
        assert torch.equal(tensor, R18[name] if buffer else average[f'backbone.{name}'])
    assert sum(name.startswith('ema_backbone_') for name in plain.outside) == len(ema_buffers(state))


def test_the_average_of_mmengine_is_an_entry():
    checkpoint = dict(
        state_dict=prefixed('backbone.', R18),
        ema_state_dict=prefixed('module.backbone.', other(R18)) | {'steps': torch.zeros(())},
    )
    assert peers.same_weights(detect(checkpoint, 'x').weights, R18)
    found = detect(checkpoint, 'x', entry='ema_state_dict')
    assert found.entry == 'ema_state_dict' and peers.same_weights(found.weights, other(R18))


def test_two_networks_in_one_file_are_ambiguous():
    checkpoint = dict(state_dict=prefixed('backbone.', R18), model=other(R18))
    with pytest.raises(ConversionError, match=r'x is ambiguous.*Choose with --from') as error:
        detect(checkpoint, 'x')
    assert 'mmpretrain' in str(error.value) and 'torchvision' in str(error.value)
    assert peers.same_weights(detect(checkpoint, 'x', 'mmpretrain').weights, R18)
    assert peers.same_weights(detect(checkpoint, 'x', 'torchvision').weights, other(R18))


def test_heads_of_moco_v3_are_its_own():
    small = dict(embed_dim=384, depth=12, num_heads=12)
    with torch.device('meta'):
        names = peers.timm_vit(**small).state_dict()
    weights = {name: torch.rand(tensor.shape) for name, tensor in names.items()}
    found = detect(dict(state_dict=prefixed('module.base_encoder.', weights)), 'x')
    assert found.encoder.cfg['arch']['num_heads'] == 12
    assert detect(dict(model=weights), 'x', 'deit').encoder.cfg['arch'] == 'deit-small'


@pytest.mark.parametrize(
    ('origin', 'mean'), [('mae', 0.485), ('beit', 0.5), ('moco', 0.485), ('timm', None), ('mmpretrain', None)]
)
def test_normalisation_is_told_where_all_agree(origin, mean):
    found = detect(FILES[origin][0][0], 'x', hints=HINTS)
    assert (found.mean_std and found.mean_std[0][0]) == mean


def saved(config):
    """The metadata that a training of OpenMMLab saves."""
    return dict(cfg=config)


def test_heads_size_and_normalisation_are_read_from_a_saved_config():
    text = f"""
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[255, 255, 255]),
    backbone=dict(type='VisionTransformer', arch={peers.ARCH!r}, img_size=(96, 32), patch_size=16))
"""
    weights = random_weights(peers.mm_vit(img_size=(96, 32)))
    checkpoint = dict(meta=saved(text), state_dict=prefixed('backbone.', weights))
    found = detect(checkpoint, 'x')
    assert found.encoder.cfg['img_size'] == (96, 32)
    assert found.encoder.cfg['arch']['num_heads'] == peers.HEADS
    assert found.mean_std == ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    assert (
        detect(checkpoint, 'x', hints=Hints(heads=8, img_size=(96, 32))).encoder.cfg['arch']['num_heads'] == 8
    )


@pytest.mark.parametrize('text', ['model = evil()', 'model = dict(backbone=3)', '(', 'model = 3', ''])
def test_a_saved_config_that_says_nothing_is_passed_over(text):
    checkpoint = dict(meta=saved(text), state_dict=prefixed('backbone.', R18))
    assert peers.same_weights(detect(checkpoint, 'x').weights, R18)


@pytest.mark.parametrize('number', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('name', ['layer4.1.bn2.running_var'])
def test_numbers_that_are_not_finite_are_refused(name, number):
    weights = {**R18, name: R18[name].clone()}
    weights[name].view(-1)[-1] = number
    with pytest.raises(CheckpointError, match=rf'x.pth holds numbers that are not finite: {name}'):
        detect(dict(state_dict=weights), 'x.pth')
    outside = R18 | {'fc.weight': torch.tensor([number]), 'fc.bias': torch.zeros(1)}
    assert peers.same_weights(detect(outside, 'x').weights, R18)


@pytest.mark.parametrize(
    'checkpoint', [{}, {'epoch': 3}, {'state_dict': {}}, {'state_dict': {'a': 'b'}}, {1: torch.zeros(1)}]
)
def test_a_file_without_weights_is_refused(checkpoint):
    with pytest.raises(CheckpointError, match='x.pth does not hold weights: its keys are'):
        detect(checkpoint, 'x.pth')


def test_an_unknown_origin_is_refused():
    with pytest.raises(ConversionError, match=r"no format 'vissl' to read; known: auto, a2mim, openmixup"):
        detect(R18, 'x', 'vissl')


def test_names_of_no_format_are_shown():
    with pytest.raises(ConversionError, match='Its 2 weights include a.weight, b.weight'):
        detect(tensors('a.weight', 'b.weight'), 'x')


@settings(FUZZ, max_examples=10)
@given(st.sampled_from(CASES), st.integers(0, 2**32 - 1))
def test_the_order_of_names_does_not_matter(case, seed):
    checkpoint, _ = FILES[case[0]][case[1]]
    expected = detect(checkpoint, 'x', hints=HINTS)
    shuffle = random.Random(seed).sample

    def shuffled(content):
        items = shuffle([*content.items()], len(content))
        return {name: shuffled(value) if isinstance(value, dict) else value for name, value in items}

    found = detect(shuffled(checkpoint), 'x', hints=HINTS)
    assert equal_pivots(found.encoder, expected.encoder)
    assert (found.origin, found.naming, found.also) == (expected.origin, expected.naming, expected.also)


def changed(case, change):
    """The file with its encoder's weights changed, given their full names."""
    checkpoint, weights = FILES[case[0]][case[1]]
    found = detect(checkpoint, 'x', hints=HINTS)
    entry = checkpoint[found.entry] if found.entry else checkpoint
    full = {}
    for name in entry:
        bare = name.removeprefix('module.').removeprefix(found.origin.prefix)
        if bare in weights and name.removeprefix('module.') == found.origin.prefix + bare:
            full[bare] = name
    state = change(dict(entry), full)
    return {**checkpoint, found.entry: state} if found.entry else state


# No file shows that these were ever there: the rest is a whole encoder.
OPTIONAL = ('num_batches_tracked', INDEX, 'pos_embed')


@settings(FUZZ, max_examples=10)
@given(st.data())
def test_a_dropped_name_is_never_another_encoder(data):
    case = data.draw(st.sampled_from(CASES))
    expected = detect(FILES[case[0]][case[1]][0], 'x', hints=HINTS)
    name = data.draw(st.sampled_from(sorted(expected.weights)))
    damaged = changed(
        case, lambda state, full: {key: value for key, value in state.items() if key != full[name]}
    )
    if name.endswith(OPTIONAL):
        try:
            detect(damaged, 'x', hints=HINTS)
        except (ConversionError, CheckpointError):
            pass
        return
    with pytest.raises((ConversionError, CheckpointError)) as error:
        detect(damaged, 'x', hints=HINTS)
    assert type(error.value) in (ConversionError, CheckpointError)


EXTRA = (
    'extra', 'norm.weight', 'norm_pre.weight', 'layers.0.extra', 'blocks.0.attn.q_norm.weight',
    'fc_norm.bias', 'layer1.0.se.fc1.weight', 'layers.00.ln1.weight', 'blocks.1e3.norm1.weight',
    'layer5.0.conv1.weight', 'relative_position_bias_table', 'stages.7.0.gamma', 'reg_token',
    'layers.-1.attn.qkv.weight', '', '.', '*', 'layer1.x.conv1.weight',
    'blocks.999999999.attn.qkv.weight', 'blocks.9.attn.q_bias', 'layers.9.attn.v_bias',
)  # fmt: skip


@settings(FUZZ, max_examples=10)
@given(st.data())
def test_an_added_name_is_never_another_encoder(data):
    case = data.draw(st.sampled_from(CASES))
    expected = detect(FILES[case[0]][case[1]][0], 'x', hints=HINTS)
    name = data.draw(st.sampled_from(EXTRA) | st.text('abk.019_*', max_size=12))
    shape = data.draw(st.sampled_from([(), (3,), (W,), (W, W), (0,), (1, 3, 1, 1)]))
    damaged = changed(case, lambda state, full: {**state, prefix_of(full) + name: torch.ones(shape)})
    try:
        found = detect(damaged, 'x', hints=HINTS)
    except (ConversionError, CheckpointError) as error:
        assert type(error) in (ConversionError, CheckpointError)
    else:
        assert equal_pivots(found.encoder, expected.encoder)  # it was outside of the encoder
        assert any(key.endswith(name) for key in found.outside)


def prefix_of(full):
    """What is in front of the encoder's names in a file."""
    bare, name = next(iter(full.items()))
    return name.removesuffix(bare)


@settings(FUZZ, max_examples=10)
@given(st.data())
def test_a_misshapen_tensor_is_never_another_encoder(data):
    case = data.draw(st.sampled_from(CASES))
    expected = detect(FILES[case[0]][case[1]][0], 'x', hints=HINTS)
    name = data.draw(st.sampled_from(sorted(expected.weights)))
    shape = data.draw(st.sampled_from([(), (0,), (1,), (2, 3), (5, 4, 3), (1, 1, 1, 1), (1, 2, 3, 4, 5)]))
    if expected.weights[name].shape == shape:
        return
    damaged = changed(case, lambda state, full: {**state, full[name]: torch.zeros(shape)})
    with pytest.raises((ConversionError, CheckpointError)) as error:
        detect(damaged, 'x', hints=HINTS)
    assert type(error.value) in (ConversionError, CheckpointError)


@pytest.mark.parametrize('name', ['blocks.9.attn.q_bias', 'layers.9.attn.v_bias', 'q.q_bias', 'head.v_bias'])
def test_a_bias_of_no_layer_is_refused(name):
    for checkpoint, prefix in ((FILES['openmixup'][0][0]['state_dict'], 'backbone.'), (BEIT_TUNED, '')):
        damaged = {**checkpoint, prefix + name: torch.ones(W)}
        with pytest.raises(ConversionError):
            detect(damaged, 'x', hints=HINTS)


def test_a_lost_table_is_seen_by_its_index():
    weights = {name: tensor for name, tensor in MM_BEIT.items() if not name.endswith('_bias_table')}
    with pytest.raises(ConversionError):
        openmmlab.BEIT.read(weights, HINTS)


def test_a_config_in_the_file_is_never_imported(tmp_path, monkeypatch):
    (tmp_path / 'evil_module.py').write_text(f'open({str(tmp_path / "payload")!r}, "w")\nNet = object\n')
    monkeypatch.syspath_prepend(tmp_path)
    for kind in ('evil_module.Net', 'mmpretrain.evil_module.Net'):
        text = f"model = dict(type='A', backbone=dict(type={kind!r}, arch='base'))"
        state = {f'backbone.{name}': tensor for name, tensor in R18.items()}
        detect(dict(state_dict=state, meta=dict(cfg=text)), 'x')
    assert not (tmp_path / 'payload').exists()


def test_caffe_style_is_refused():
    text = "model = dict(type='A', backbone=dict(type='ResNet', depth=18, style='caffe'))"
    state = {f'backbone.{name}': tensor for name, tensor in R18.items()}
    with pytest.raises(ConversionError, match="style='caffe'"):
        detect(dict(state_dict=state, meta=dict(cfg=text)), 'x')
