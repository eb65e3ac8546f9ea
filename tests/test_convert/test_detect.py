"""Which origin wrote a checkpoint, told from key lists as the authors' code and frameworks write them."""

import argparse
import random
import re
from functools import cache

import pytest
import torch
from helpers import peers
from helpers.peers import random_weights
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from mmpretrain.models import BEiTPretrainViT

from a2mim_mm.checkpoints import CheckpointError, load_checkpoint_file
from a2mim_mm.checkpoints.backbone import find_pretrained
from a2mim_mm.convert import ORIGINS, ConversionError
from a2mim_mm.convert.detect import detect
from a2mim_mm.convert.entries import state_dicts
from a2mim_mm.convert.families import resnet
from a2mim_mm.convert.formats import openmmlab
from a2mim_mm.convert.naming import Hints

W = peers.WIDTH
HINTS = Hints(heads=peers.HEADS)
INDEX = 'relative_position_index'
BUFFERS = ('running_mean', 'running_var', 'num_batches_tracked')
FUZZ = settings(deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def tensors(*names):
    """Random tensors by names; ``.*`` stands for the names of a linear layer, ``.**`` of a BatchNorm."""
    full = []
    for name in names:
        stem, _, stars = name.partition('*')
        linear = [f'{stem}weight', f'{stem}bias'] if '*' in name else [name]
        full += linear + [stem + buffer for buffer in BUFFERS if stars]
    return {name: torch.rand(3) for name in full}


def prefixed(prefix, weights):
    """Weights with something in front of their names."""
    return {prefix + name: tensor for name, tensor in weights.items()}


def other(weights):
    """Weights of the same names and shapes, and other values."""
    return {name: tensor + 1 for name, tensor in weights.items()}


def trained(encoder, *others, prefix='backbone.'):
    """A training's file: the encoder, and weights beside it."""
    state = prefixed(prefix, encoder)
    for weights in others:
        state |= weights
    return dict(state_dict=state)


def ema_buffers(weights):
    """What mmcv's EMAHook adds to a model: copies of parameters by flat names."""
    return {
        f'ema_{name.replace(".", "_")}': tensor + 1
        for name, tensor in weights.items()
        if not name.endswith((*BUFFERS, INDEX))
    }


R18 = peers.without_classifier(random_weights(peers.torchvision_resnet(18)))
R18_OF_D2, R18_OF_HF = peers.detectron2_resnet(R18), peers.huggingface_resnet(R18)
VIT = random_weights(peers.timm_vit())
VIT_OF_HF = peers.huggingface_vit(VIT)
DINOV2 = random_weights(peers.timm_vit(init_values=0.1))
VIT_MEAN = random_weights(peers.timm_vit(global_pool='avg'))
BEIT = random_weights(peers.timm_beit(use_rel_pos_bias=False, use_shared_rel_pos_bias=True))
BEIT_TUNED = random_weights(peers.timm_beit(global_pool='avg'))
RELPOS = random_weights(peers.timm_relpos())
NEXT = peers.facebook_convnext(random_weights(peers.timm_convnext()))
MM_VIT = random_weights(peers.mm_vit())
MM_BEIT = random_weights(peers.mm_beit(use_abs_pos_emb=True))
MM_CAE = random_weights(peers.mm_beit(use_abs_pos_emb=True, use_rel_pos_bias=False))
MM_SHARED = random_weights(
    BEiTPretrainViT(arch=peers.ARCH, img_size=peers.SIZE, patch_size=peers.PATCH, layer_scale_init_value=0.1)
)
MM_TOKEN = {'mask_token': MM_SHARED.pop('mask_token')}
MM_NEXT = random_weights(peers.mm_convnext())
MM_SWIN = random_weights(peers.mm_swin(img_size=192, window_size=6))

FC, HEAD = tensors('fc.*'), tensors('head.*')
BEIT_INDEX = {f'rel_pos_bias.{INDEX}': MM_SHARED[f'rel_pos_bias.{INDEX}']}
BEIT_FILE = BEIT | BEIT_INDEX | tensors('mask_token')
MAE_DECODER = tensors('mask_token', 'decoder_pos_embed', 'decoder_blocks.0.mlp.fc1.*', 'decoder_pred.*')
DINO_HEAD = tensors('head.mlp.0.*', 'head.last_layer.weight_g', 'head.last_layer.weight_v')
IBOT_TOKEN = {'backbone.masked_embed': torch.zeros(1, W)}
IBOT_HEAD = DINO_HEAD | tensors('head.last_layer2.weight_g')
MOCO_HEAD = tensors('fc.0.*', 'fc.2.*')
MOCO_QUEUE = {'queue': torch.rand(4, 8), 'queue_ptr': torch.zeros(1, dtype=torch.int64)}
MOCO_V3_HEAD = tensors('head.0.weight', 'head.1.**', 'head.3.weight')
MOCO_V3_PREDICTOR = tensors('predictor.0.weight', 'predictor.1.**')
OPENMIXUP_NECK = tensors('neck.decoder_pred.0.*')
OPENMIXUP_MASK = tensors('backbone.mask_token', 'backbone.mask_gamma')
SIMSIAM = prefixed('encoder.', R18 | tensors('fc.0.weight', 'fc.1.**')) | tensors('predictor.0.weight')
SWAV_HEAD = tensors('projection_head.0.*', 'projection_head.1.**', 'prototypes.weight')
BARLOW_HEAD = tensors('projector.0.weight', 'projector.1.**', 'bn.**')
SPARK_DECODER = tensors('mask_tokens.0', 'imn_m', 'densify_norms.0.*', 'dense_decoder.dec.0.up_sample.weight')
SPARK = prefixed('sparse_encoder.sp_cnn.', R18) | SPARK_DECODER | dict(config={'sbn': True})
STEPS = {'steps': torch.zeros(())}
MM_AVERAGE = prefixed('module.backbone.', other(R18)) | STEPS
D2_MODEL = {name: tensor.numpy() for name, tensor in (R18_OF_D2 | tensors('stem.fc.0.*')).items()}


def distilled(encoder, token, head, wrapper=''):
    """A file of DINO or iBOT: a student in parallel, and the teacher whose encoder is read."""
    student = prefixed('backbone.', other(encoder)) | token | DINO_HEAD
    teacher = prefixed('backbone.', encoder) | token | head
    return dict(student=prefixed('module.', student), teacher=prefixed(wrapper, teacher), epoch=1)


def contrasted(name, momentum, encoder, head, *others):
    """A file of MoCo in parallel: the encoder, and the one of momentum."""
    copy = prefixed(f'{momentum}.', other(encoder) | head)
    state = trained(encoder | head, copy, *others, prefix=f'{name}.')['state_dict']
    return dict(state_dict=prefixed('module.', state), epoch=1)


# Origin: what its files hold, and of which weights the encoder is.
FILES = {
    'a2mim': [
        (trained(R18, tensors('neck.decode.0.*', 'mask_token.token')) | dict(message_hub={}), R18),
        (trained(MM_VIT, tensors('mask_token.token')), MM_VIT),
    ],
    'openmixup': [
        (trained(MM_BEIT, OPENMIXUP_MASK, OPENMIXUP_NECK) | dict(meta={}, optimizer={'state': {}}), MM_BEIT),
        (trained(R18, prefixed('module.', OPENMIXUP_NECK), prefix='module.backbone.'), R18),
        (trained(R18, ema_buffers(prefixed('backbone.', R18))), R18),
        (trained(MM_NEXT, OPENMIXUP_NECK), MM_NEXT),
    ],
    'mmpretrain': [
        (trained(MM_VIT, tensors('backbone.mask_token', 'neck.fc.*')), MM_VIT),
        (trained(MM_SHARED, prefixed('backbone.', MM_TOKEN), tensors('head.cls_head.*')), MM_SHARED),
        (trained(MM_CAE, prefixed('teacher.', other(MM_CAE)), tensors('neck.mask_token')), MM_CAE),
        (trained(MM_SWIN, tensors('backbone.mask_token', 'neck.decoder.0.*')), MM_SWIN),
        (trained(R18, MOCO_QUEUE, prefixed('encoder_k.module.0.', other(R18) | STEPS)), R18),
        (trained(R18, prefixed('encoder_q.0.', R18), MOCO_QUEUE), R18),
        (trained(R18, tensors('rpn_head.rpn_conv.*')) | dict(ema_state_dict=MM_AVERAGE), R18),
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
        (VIT_MEAN | HEAD, VIT_MEAN),
        (BEIT_TUNED, BEIT_TUNED),
        (RELPOS | HEAD, RELPOS),
        (trained(VIT, prefix='module.'), VIT),
    ],
    'torchvision': [(R18 | FC, R18), (trained(R18 | FC, prefix='module.') | dict(best_acc1=0.5), R18)],
    'mae': [(dict(model=VIT | MAE_DECODER, epoch=3), VIT)],
    'deit': [(dict(model=VIT | HEAD), VIT), (dict(model=VIT_MEAN | HEAD), VIT_MEAN), (dict(model=VIT), VIT)],
    'dino': [
        (distilled(VIT, {}, DINO_HEAD) | dict(dino_loss={'center': torch.zeros(1, 8)}), VIT),
        (distilled(R18, {}, DINO_HEAD, wrapper='module.'), R18),
    ],
    'ibot': [(distilled(VIT, IBOT_TOKEN, IBOT_HEAD), VIT)],
    'moco': [
        (contrasted('encoder_q', 'encoder_k', R18, MOCO_HEAD, MOCO_QUEUE), R18),
        (contrasted('encoder_q', 'encoder_k', R18, FC), R18),
    ],
    'moco-v3': [
        (contrasted('base_encoder', 'momentum_encoder', VIT, MOCO_V3_HEAD, MOCO_V3_PREDICTOR), VIT),
        (contrasted('base_encoder', 'momentum_encoder', R18, tensors('fc.1.**')), R18),
    ],
    'simsiam': [(trained(SIMSIAM, prefix='module.'), R18)],
    'swav': [
        (prefixed('module.', R18 | SWAV_HEAD), R18),
        (trained(R18, tensors('prototypes.prototypes0.weight'), prefix=''), R18),
    ],
    'barlowtwins': [(dict(model=prefixed('module.', prefixed('backbone.', R18) | BARLOW_HEAD)), R18)],
    'simmim': [(dict(model=prefixed('encoder.', BEIT_FILE) | tensors('decoder.0.*')), BEIT | BEIT_INDEX)],
    'simmim-finetuned': [(dict(model=BEIT_TUNED | HEAD), BEIT_TUNED)],
    'beit': [
        (dict(model=BEIT_FILE | tensors('lm_head.*')), BEIT | BEIT_INDEX),
        (dict(module=BEIT_FILE), BEIT | BEIT_INDEX),
    ],
    'convnext': [(dict(model=NEXT | HEAD), NEXT)],
    'spark': [(R18, R18), (dict(module=R18), R18)],
    'spark-pretraining': [(dict(module=SPARK), R18)],
    'detectron2': [
        (dict(model=D2_MODEL, __author__='MOCO', matching_heuristics=True), R18_OF_D2),
        (dict(model=R18_OF_D2 | tensors('linear.*')), R18_OF_D2),
    ],
    'dinov2': [(DINOV2 | tensors('mask_token'), DINOV2)],
    'dinov2-training': [
        (dict(teacher=prefixed('backbone.', DINOV2) | tensors('dino_head.mlp.0.weight')), DINOV2)
    ],
    'dinov2-teacher': [
        (prefixed('teacher.backbone.', DINOV2) | prefixed('student.backbone.', other(DINOV2)), DINOV2)
    ],
    'huggingface': [(VIT_OF_HF | tensors('pooler.dense.*'), VIT_OF_HF), (R18_OF_HF, R18_OF_HF)],
    'huggingface-vit': [(prefixed('vit.', VIT_OF_HF) | tensors('decoder.mask_token'), VIT_OF_HF)],
    'huggingface-resnet': [(prefixed('resnet.', R18_OF_HF) | tensors('classifier.1.*'), R18_OF_HF)],
}
CASES = [(origin, i) for origin, files in FILES.items() for i in range(len(files))]


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
    assert peers.same_weights(found.weights, weights)
    assert found.entry in ('', 'state_dict', 'model', 'module', 'teacher')
    inside = len(state_dicts(checkpoint, 'x')[found.entry])
    beside = [name for name in found.outside if name.endswith(' weights')]
    assert len(found.outside) - len(beside) == inside - len(weights)
    named = detect(checkpoint, 'x.pth', origin, HINTS)
    assert named.origin.name == origin and equal_pivots(named.encoder, found.encoder)
    agree = {found.origin.name, *found.also}
    assert origin in agree
    for refusing in ORIGINS.keys() - agree:
        with pytest.raises(ConversionError):
            detect(checkpoint, 'x.pth', refusing, HINTS)


NUMBERS = {'conv1': '0', 'bn1': '1', 'layer1': '4', 'layer2': '5', 'layer3': '6', 'layer4': '7'}
LIGHTLY = {re.sub(r'^\w+', lambda part: NUMBERS[part[0]], name): R18[name] for name in R18}
WRAPPED = {
    'compiled': (prefixed('_orig_mod.', R18), R18),
    'compiled in parallel': (prefixed('module._orig_mod.', VIT), VIT),
    'parallel, compiled within': (prefixed('_orig_mod.module.', VIT), VIT),
    'compiled backbone': (prefixed('backbone._orig_mod.', R18), R18),
    'lightning': (trained(VIT, prefix='model.'), VIT),
    'lightning, compiled': (trained(R18, prefix='model._orig_mod.'), R18),
    'lightning with backbone': (trained(R18, tensors('criterion.weight'), prefix='model.backbone.'), R18),
    'lightly': (prefixed('backbone.', LIGHTLY), R18),
    'lightly, alone': (LIGHTLY, R18),
    'lightly in lightning': (trained(LIGHTLY, prefix='model.backbone.'), R18),
    'averaged alone': (dict(model_ema=VIT, epoch=3), VIT),
    'averaged alone, timm': (dict(state_dict_ema=prefixed('module.', R18)), R18),
    'ViTModel': (FILES['huggingface'][0][0], VIT),
    'ViTMAEForPreTraining': (FILES['huggingface-vit'][0][0], VIT),
    'ResNetModel': (FILES['huggingface'][1][0], R18),
    'ResNetForImageClassification': (FILES['huggingface-resnet'][0][0], R18),
}


@pytest.mark.parametrize('kind', WRAPPED)
def test_an_encoder_is_found_under_any_wrapping(monkeypatch, kind):
    monkeypatch.setattr(resnet, 'torchvision_resnet', resnet.torchvision_resnet.__wrapped__)  # with storage
    checkpoint, plain = WRAPPED[kind]
    expected = detect(plain, 'plain.pth', hints=HINTS)
    found = detect(checkpoint, 'x.pth', hints=HINTS)
    assert equal_pivots(found.encoder, expected.encoder)
    first, second = (
        one.naming.peer(one.encoder.cfg, one.weights).double().features(peers.images())
        for one in (found, expected)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize('prefix', ['_orig_mod.', 'module._orig_mod.', 'backbone._orig_mod.'])
def test_a_backbone_for_pretrained_is_found_under_wrappers(prefix):
    assert find_pretrained(prefixed(prefix, R18), 'x.pth').weights.keys() == R18.keys()


@pytest.mark.parametrize(
    'origin',
    ['a2mim', 'mae', 'dino', 'ibot', 'moco', 'moco-v3', 'simsiam', 'swav', 'detectron2', 'spark-pretraining'],
)
def test_the_origin_that_only_one_sign_tells_is_named_alone(origin):
    found = detect(FILES[origin][0][0], 'x.pth', hints=HINTS)
    assert found.origin.name == origin and set(found.also) <= {'mmpretrain', 'dino'}


@pytest.mark.parametrize('origin', ['dino', 'ibot'])
def test_the_teacher_is_read_unless_the_student_is_asked_for(origin):
    checkpoint = FILES[origin][0][0]
    reverse = dict(reversed(checkpoint.items()))
    student, teacher = ({entry: checkpoint[entry]} for entry in ('student', 'teacher'))
    for content, entry, expected in (
        (checkpoint, 'teacher', VIT),
        (checkpoint, 'student', other(VIT)),
        (reverse, None, VIT),
        (teacher, None, VIT),
        (student, None, other(VIT)),
    ):
        assert peers.same_weights(detect(content, 'x', hints=HINTS, entry=entry).weights, expected)
    beside = [note for note in detect(checkpoint, 'x', hints=HINTS).outside if note.endswith(' weights')]
    assert f'student: {len(checkpoint["student"])} weights' in beside
    with pytest.raises(ConversionError, match=r"x has no state dict 'ema'; it has .*'teacher'"):
        detect(checkpoint, 'x', hints=HINTS, entry='ema')


def test_the_average_of_weights_is_read_when_it_is_asked_for():
    state = prefixed('backbone.', R18)
    checkpoint = dict(state_dict=state | ema_buffers(state))
    plain, averaged = detect(checkpoint, 'x'), detect(checkpoint, 'x', entry='ema')
    assert peers.same_weights(plain.weights, R18)
    expected = {name: R18[name] if name.endswith(BUFFERS) else R18[name] + 1 for name in R18}
    assert peers.same_weights(averaged.weights, expected)
    assert sum(name.startswith('ema_backbone_') for name in plain.outside) == len(ema_buffers(state))


def test_the_average_of_mmengine_is_an_entry():
    found = detect(FILES['mmpretrain'][-1][0], 'x', entry='ema_state_dict')
    assert found.entry == 'ema_state_dict' and peers.same_weights(found.weights, other(R18))


def test_several_averages_ask_for_the_entry():
    checkpoint = dict(model_ema=VIT, state_dict_ema=R18)
    with pytest.raises(ConversionError, match="--entry.*'model_ema' .*'state_dict_ema'"):
        detect(checkpoint, 'x.pth', hints=HINTS)
    assert detect(checkpoint, 'x.pth', hints=HINTS, entry='model_ema').encoder.family == 'A2MIMViT'


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


def test_heads_size_and_normalisation_are_read_from_a_saved_config():
    text = f"""
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[255, 255, 255]),
    backbone=dict(type='VisionTransformer', arch={peers.ARCH!r}, img_size=(96, 32), patch_size=16))
"""
    checkpoint = trained(random_weights(peers.mm_vit(img_size=(96, 32)))) | dict(meta=dict(cfg=text))
    found = detect(checkpoint, 'x')
    assert found.encoder.cfg['img_size'] == (96, 32)
    assert found.encoder.cfg['arch']['num_heads'] == peers.HEADS
    assert found.mean_std == ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    told = detect(checkpoint, 'x', hints=Hints(heads=8, img_size=(96, 32)))
    assert told.encoder.cfg['arch']['num_heads'] == 8


@pytest.mark.parametrize('text', ['model = evil()', 'model = dict(backbone=3)', '(', 'model = 3', ''])
def test_a_saved_config_that_says_nothing_is_passed_over(text):
    assert peers.same_weights(detect(trained(R18) | dict(meta=dict(cfg=text)), 'x').weights, R18)


def test_a_config_in_the_file_is_never_imported(tmp_path, monkeypatch):
    (tmp_path / 'evil_module.py').write_text(f'open({str(tmp_path / "payload")!r}, "w")\nNet = object\n')
    monkeypatch.syspath_prepend(tmp_path)
    for kind in ('evil_module.Net', 'mmpretrain.evil_module.Net'):
        text = f"model = dict(type='A', backbone=dict(type={kind!r}, arch='base'))"
        detect(trained(R18) | dict(meta=dict(cfg=text)), 'x')
    assert not (tmp_path / 'payload').exists()


def test_caffe_style_is_refused():
    text = "model = dict(type='A', backbone=dict(type='ResNet', depth=18, style='caffe'))"
    with pytest.raises(ConversionError, match="style='caffe'"):
        detect(trained(R18) | dict(meta=dict(cfg=text)), 'x')


@pytest.mark.parametrize('number', [float('nan'), float('inf'), -float('inf')])
def test_numbers_that_are_not_finite_are_refused_in_the_encoder(number):
    name = 'layer4.1.bn2.running_var'
    weights = {**R18, name: R18[name].clone()}
    weights[name][-1] = number
    for read, prefix in ((detect, ''), (find_pretrained, 'backbone.')):
        words = f'x.pth holds numbers that are not finite: {prefix}{name}'
        with pytest.raises(CheckpointError, match=words):
            read(trained(weights, prefix=prefix), 'x.pth')
    outside = R18 | {'fc.weight': torch.tensor([number]), 'fc.bias': torch.zeros(1)}
    assert peers.same_weights(detect(outside, 'x').weights, R18)


@pytest.mark.parametrize(
    'checkpoint', [{}, {'epoch': 3}, {'state_dict': {}}, {'state_dict': {'a': 'b'}}, {1: torch.zeros(1)}]
)
def test_a_file_without_weights_is_refused(checkpoint):
    with pytest.raises(CheckpointError, match='x.pth does not hold weights: its keys are'):
        detect(checkpoint, 'x.pth')


def test_settings_of_a_training_are_forgotten_unread(tmp_path):
    torch.save(dict(state_dict=VIT, args=argparse.Namespace(lr=1, path='x')), tmp_path / 'x.pth')
    checkpoint = load_checkpoint_file(tmp_path / 'x.pth')
    assert not isinstance(checkpoint['args'], argparse.Namespace) and not vars(checkpoint['args'])
    assert peers.same_weights(detect(checkpoint, 'x.pth', hints=HINTS).weights, VIT)


def test_unknown_origins_and_names_are_refused():
    with pytest.raises(ConversionError, match=r"no format 'vissl' to read; known: auto, a2mim, openmixup"):
        detect(R18, 'x', 'vissl')
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


def drawn(data):
    """A file, what is found in it, its state dict, and the full names of the encoder's weights there."""
    origin, i = data.draw(st.sampled_from(CASES))
    checkpoint, weights = FILES[origin][i]
    found = detect(checkpoint, 'x', hints=HINTS)
    state = checkpoint[found.entry] if found.entry else checkpoint
    full = {
        bare: name
        for bare in weights
        for name in (found.origin.prefix + bare, f'module.{found.origin.prefix}{bare}')
        if name in state
    }
    return checkpoint, found, state, full


def with_state(checkpoint, found, state):
    """The file with another state dict."""
    return {**checkpoint, found.entry: state} if found.entry else state


SHAPES = [(), (0,), (1,), (2, 3), (5, 4, 3), (1, 1, 1, 1), (1, 2, 3, 4, 5)]
# No file shows that these were ever there: the rest is a whole encoder.
OPTIONAL = ('num_batches_tracked', INDEX, 'pos_embed')


@settings(FUZZ, max_examples=20)
@given(st.data())
def test_a_dropped_name_or_a_misshapen_tensor_is_never_another_encoder(data):
    checkpoint, found, state, full = drawn(data)
    name = data.draw(st.sampled_from(sorted(full)))
    shape = data.draw(st.just(None) | st.sampled_from(SHAPES))
    damaged = {key: tensor for key, tensor in state.items() if key != full[name]}
    if shape is not None:
        damaged[full[name]] = torch.zeros(shape)
    assume(found.weights[name].shape != shape and (shape is not None or not name.endswith(OPTIONAL)))
    with pytest.raises((ConversionError, CheckpointError)):
        detect(with_state(checkpoint, found, damaged), 'x', hints=HINTS)


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
    checkpoint, expected, state, full = drawn(data)
    name = data.draw(st.sampled_from(EXTRA) | st.text('abk.019_*', max_size=12))
    shape = data.draw(st.sampled_from([(), (3,), (W,), (W, W), (0,), (1, 3, 1, 1)]))
    bare, example = next(iter(full.items()))
    damaged = {**state, example.removesuffix(bare) + name: torch.ones(shape)}
    try:
        found = detect(with_state(checkpoint, expected, damaged), 'x', hints=HINTS)
    except (ConversionError, CheckpointError):
        return
    assert equal_pivots(found.encoder, expected.encoder)  # it was outside of the encoder
    assert any(key.endswith(name) for key in found.outside)


@pytest.mark.parametrize('name', ['blocks.9.attn.q_bias', 'layers.9.attn.v_bias', 'q.q_bias', 'head.v_bias'])
def test_a_bias_of_no_layer_is_refused(name):
    for checkpoint, prefix in ((FILES['openmixup'][0][0]['state_dict'], 'backbone.'), (BEIT_TUNED, '')):
        with pytest.raises(ConversionError):
            detect({**checkpoint, prefix + name: torch.ones(W)}, 'x', hints=HINTS)


def test_a_lost_table_is_seen_by_its_index():
    weights = {name: tensor for name, tensor in MM_BEIT.items() if not name.endswith('_bias_table')}
    with pytest.raises(ConversionError):
        openmmlab.BEIT.read(weights, HINTS)
