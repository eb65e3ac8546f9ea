"""The algorithm end to end: loss and gradient against assembled references, pictures, wiring, mistakes."""

import copy

import numpy as np
import pytest
import torch
from helpers import algorithms, reference
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from a2mim_mm.errors import InputError


def mask_of(samples, ratio=0.6, grid=(4, 6)):
    """The mask of samples, from the reference."""
    scores = [np.random.RandomState(sample.mask_seed).random_sample(grid) for sample in samples]
    return reference.random_mask(np.stack(scores), ratio)


# ---- loss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'patch'), [('vit', 8), ('vit', 16), ('vit', 32), ('resnet', 16), ('resnet', 32)]
)
@pytest.mark.filterwarnings('ignore:the mask grid has only')
def test_loss_and_gradients_match_the_assembled_reference(name, patch):
    mask = dict(type='a2mim_mm.RandomPatchMask', patch_size=patch, ratio=0.6)
    algorithm = algorithms.build(name, mask=mask)
    inputs, samples = algorithms.batch()
    mask = mask_of(samples, grid=(64 // patch, 96 // patch))
    twin, pred = algorithms.by_hand(algorithm, inputs[0], mask)
    pixels = np.kron(mask, np.ones((1, patch, patch)))[:, None]
    args = pred.detach().double().numpy(), inputs[0].double().numpy(), pixels
    spa, freq = reference.l_spa(*args), reference.l_freq(*args)

    losses = algorithm.loss(inputs, samples)
    assert set(losses) == {'loss_spa', 'loss_freq'}
    assert losses['loss_spa'].item() == pytest.approx(spa.loss, rel=1e-4)
    assert losses['loss_freq'].item() == pytest.approx(0.5 * freq.loss, rel=1e-4)

    algorithms.total(losses).backward()
    pred.backward(torch.tensor(spa.grad + 0.5 * freq.grad).float())
    expected = {key: param.grad for key, param in twin.named_parameters() if param.grad is not None}
    got = {key: param.grad for key, param in algorithm.named_parameters() if param.grad is not None}
    assert set(got) == set(expected) == {key for key, _ in algorithm.named_parameters()}
    for key, grad in expected.items():
        tol = 2e-3 * grad.abs().max().item() + 1e-7
        torch.testing.assert_close(got[key], grad, atol=tol, rtol=0, msg=key)


def test_loss_falls_when_one_batch_is_learned_by_heart():
    algorithm = algorithms.build('vit', token_std=0.02)
    algorithm.train()
    inputs, samples = algorithms.batch(batch=2)
    optimizer = torch.optim.AdamW(algorithm.parameters(), lr=1e-2)
    history = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = algorithms.total(algorithm.loss(inputs, samples))
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    # the mean colour of each picture gets to 0.8 of the first loss
    assert history[-1] < 0.6 * history[0]


def test_without_token():
    algorithm = algorithms.build('resnet', mask_token=None)
    assert not [key for key in algorithm.state_dict() if 'token' in key]
    assert algorithm.mask_token is None
    algorithms.total(algorithm.loss(*algorithms.batch())).backward()


@pytest.mark.parametrize('fill', ['mean', 'zero', 'token', 'none'])
def test_hidden_pixels_reach_the_network_only_through_the_fill(fill):
    algorithm = algorithms.build('resnet', fill=fill).eval()
    assert ('fill.pixel_token' in algorithm.state_dict()) == (fill == 'token')
    seen = []
    algorithm.backbone.conv1.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    inputs, samples = algorithms.batch()
    mask = torch.tensor(mask_of(samples)).float()
    pixels = mask.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None].expand(-1, 3, -1, -1) == 1
    img = inputs[0]
    algorithm.loss(inputs, samples)
    assert torch.equal(seen[0][~pixels], img[~pixels])
    if fill == 'none':
        assert torch.equal(seen[0], img)
        return
    # the pixels of one channel hide behind one colour
    for sample, hidden in zip(seen[0], pixels, strict=True):
        assert all(len(channel[cells].unique()) == 1 for channel, cells in zip(sample, hidden, strict=True))


def test_rectangle_mask():
    algorithm = algorithms.build('resnet', mask=dict(type='a2mim_mm.RectangleMask', patch_size=16, ratio=0.5))
    losses = algorithm.loss(*algorithms.batch())
    assert all(torch.isfinite(loss) for loss in losses.values())


@algorithms.BOTH
def test_bf16_autocast_keeps_losses_in_float32(name):
    algorithm = algorithms.build(name)
    inputs, samples = algorithms.batch()
    plain = algorithm.loss(inputs, samples)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        cast = algorithm.loss(inputs, samples)
    algorithms.total(cast).backward()
    assert algorithm.mask_token.token.grad.dtype == torch.float32
    for key, value in cast.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(plain[key].item(), rel=0.05)


# ---- forward and its modes -----------------------------------------------------------------------


@algorithms.BOTH
def test_extract_feat_sees_whole_images(name):
    algorithm = algorithms.build(name)
    bare = MODELS.build(copy.deepcopy(algorithms.PARTS[name]['backbone']))
    bare.load_state_dict(algorithm.backbone.state_dict())
    bare.eval()
    algorithm.eval()
    inputs, samples = algorithms.batch()
    with torch.no_grad():
        expected = bare(inputs[0])[-1]
        algorithm.loss(inputs, samples)
        assert torch.equal(algorithm.extract_feat(inputs)[-1], expected)
        assert torch.equal(algorithm.extract_feat(inputs[0])[-1], expected)
        assert torch.equal(algorithm(inputs, samples, mode='tensor')[-1], expected)


def test_predict_hands_the_losses_to_each_sample():
    algorithm = algorithms.build('resnet')
    algorithm.eval()
    inputs, samples = algorithms.batch()
    with torch.no_grad():
        out = algorithm(inputs, samples, mode='predict')
        expected = algorithm.loss(inputs, samples)
    assert len(out) == 3
    for sample in out:
        assert isinstance(sample, DataSample)
        assert type(sample.loss_spa) is float and type(sample.loss_freq) is float
    for key, value in expected.items():
        mean = np.mean([sample.get(key) for sample in out])
        assert mean == pytest.approx(value.item(), rel=1e-5)


def test_train_step_takes_raw_bgr_bytes():
    from mmengine.optim import OptimWrapper

    algorithm = algorithms.build('resnet')
    inputs, samples = algorithms.batch()
    raw_bgr = (algorithms.photos().flip(1) * 255).round().byte()
    optim_wrapper = OptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=0.0))
    log = algorithm.train_step(dict(inputs=raw_bgr, data_samples=samples), optim_wrapper)
    expected = algorithms.total(algorithm.loss(inputs, samples)).item()
    assert log['loss'].item() == pytest.approx(expected, rel=1e-2)
    assert log['loss'].item() == pytest.approx(log['loss_spa'].item() + log['loss_freq'].item(), rel=1e-5)


# ---- the backbone carries no trace ---------------------------------------------------------------


@algorithms.BOTH
def test_backbone_keys_are_those_of_the_bare_backbone(name):
    algorithm = algorithms.build(name)
    algorithm.loss(*algorithms.batch())
    bare = MODELS.build(copy.deepcopy(algorithms.PARTS[name]['backbone']))
    assert list(algorithm.backbone.state_dict()) == list(bare.state_dict())
    own = {key for key in algorithm.state_dict() if not key.startswith('backbone.')}
    assert own == {'mask_token.token', 'neck.decoder.0.weight', 'neck.decoder.0.bias'}


# ---- mistakes of users ---------------------------------------------------------------------------


def test_samples_without_seeds_and_sizes_that_the_patch_does_not_divide_are_errors():
    algorithm = algorithms.build('resnet')
    inputs, samples = algorithms.batch()
    del samples[1].mask_seed
    with pytest.raises(ValueError, match='mask_seed'):
        algorithm.loss(inputs, samples)
    with pytest.raises(ValueError, match='mask_seed'):
        algorithm.loss(inputs, None)
    with pytest.raises(ValueError, match='16.*60 x 96'):
        algorithm.loss([inputs[0][:, :, :60]], algorithms.batch()[1])


def test_decoder_of_another_stride_is_an_error():
    algorithm = algorithms.build('resnet', neck=dict(algorithms.RESNET['neck'], encoder_stride=16))
    with pytest.raises(ValueError, match='encoder_stride'):
        algorithm.loss(*algorithms.batch())


def test_unknown_argument_is_refused():
    with pytest.raises(TypeError, match='mask_tokens'):
        algorithms.build('resnet', mask_tokens=None)


# ---- checkpointing, compilation, two ranks -------------------------------------------------------


@pytest.mark.parametrize('wrapped', ['backbone', 'backbone.layers.0'])
@pytest.mark.filterwarnings('ignore:.*use_reentrant', 'ignore:.*requires_grad=True')
def test_mmengines_activation_checkpointing(wrapped):
    from mmengine.runner import turn_on_activation_checkpointing

    plain, kept = algorithms.build('vit'), algorithms.build('vit')
    inputs, samples = algorithms.batch()
    # reentrant checkpointing needs an input with a gradient to give the parameters theirs
    inputs = [inputs[0].requires_grad_()]
    turn_on_activation_checkpointing(kept, wrapped)
    for algorithm in (plain, kept):
        algorithms.total(algorithm.loss(inputs, samples)).backward()
    torch.testing.assert_close(kept.mask_token.token.grad, plain.mask_token.token.grad, atol=1e-6, rtol=1e-4)


def test_compiled_loss():
    torch.compiler.reset()
    algorithm = algorithms.build('vit')
    compiled = torch.compile(algorithm.loss, backend='eager')
    for seed in (0, 1):
        batch = algorithms.batch(seed=seed)
        grads = []
        for loss in (algorithm.loss, compiled):
            algorithm.zero_grad()
            value = algorithms.total(loss(*batch))
            value.backward()
            grads.append((value.detach(), algorithm.mask_token.token.grad.clone()))
        torch.testing.assert_close(grads[1], grads[0], atol=1e-6, rtol=1e-4)
        assert grads[0][1].abs().max() > 0


def rank_gradient(algorithm, forward, rank):
    """Gradient of the token from the batch of one rank."""
    algorithm.zero_grad()
    inputs, samples = algorithms.batch(batch=2, seed=10 + rank)
    algorithms.total(forward(inputs, samples, mode='loss')).backward()
    return algorithm.mask_token.token.grad.clone()


def train_on_rank(rank, folder):
    """Two steps, the second of which fails where a parameter got no gradient in the first."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    algorithm = algorithms.build('resnet')
    wrapped = torch.nn.parallel.DistributedDataParallel(algorithm)
    grads = [rank_gradient(algorithm, wrapped, rank) for _ in range(2)]
    torch.save(grads[0], f'{folder}/grad_{rank}.pth')
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(torch.cuda.is_available(), reason='CUDA does not survive a fork')
def test_token_gradient_is_averaged_over_two_ranks(tmp_path):
    # Forked, because a new process would import mmpretrain for most of a minute.
    torch.multiprocessing.start_processes(train_on_rank, (str(tmp_path),), nprocs=2, start_method='fork')
    got = [torch.load(tmp_path / f'grad_{rank}.pth') for rank in (0, 1)]
    algorithm = algorithms.build('resnet')
    alone = [rank_gradient(algorithm, algorithm, rank) for rank in (0, 1)]
    assert not torch.allclose(alone[0], alone[1], rtol=1e-2)
    torch.testing.assert_close(got[0], got[1], atol=0, rtol=0)
    torch.testing.assert_close(got[0], (alone[0] + alone[1]) / 2, atol=1e-5, rtol=1e-3)


# ---- any form of the last output -----------------------------------------------------------------


class Reshaped(torch.nn.Module):
    """A backbone whose last output is brought into another form."""

    def __init__(self, backbone, form):
        super().__init__()
        self.backbone, self.form = backbone, form

    def forward(self, img):
        return self.form(self.backbone(img)[-1])


TOKENS = [
    lambda map_bchw: map_bchw,
    lambda map_bchw: [map_bchw],
    lambda map_bchw: (map_bchw.permute(0, 2, 3, 1),),
    lambda map_bchw: (map_bchw.flatten(2).mT,),
    lambda map_bchw: (torch.nn.functional.pad(map_bchw.flatten(2).mT, (0, 0, 2, 0)),),
]


@pytest.mark.parametrize('form', TOKENS, ids=['tensor', 'list', 'channels-last', 'tokens', '2 + tokens'])
def test_last_output_of_any_layout_is_decoded(form):
    algorithm = algorithms.build('vit', mask_token=None)
    inputs, samples = algorithms.batch()
    expected = algorithm.loss(inputs, samples)
    algorithm.backbone = Reshaped(algorithm.backbone, form)
    assert algorithm.loss(inputs, samples) == expected


@pytest.mark.parametrize(
    ('form', 'words'),
    [
        (
            lambda feat: feat.mean(dim=(2, 3)),
            ['(3, 48)', "out_type='featmap'", 'gap_before_final_norm'],
        ),
        (lambda feat: dict(feat=feat), ['returns a dict']),
        (lambda feat: feat[:, :40], ['neck.in_channels is 48', 'write neck.in_channels=40']),
        (lambda feat: feat[:, :40].flatten(2).mT, ['neck.in_channels is 48', 'write neck.in_channels=40']),
    ],
)
def test_last_output_without_a_map_says_what_to_write(form, words):
    algorithm = algorithms.build('vit', mask_token=None)
    algorithm.backbone = Reshaped(algorithm.backbone, form)
    with pytest.raises(InputError) as error:
        algorithm.loss(*algorithms.batch())
    assert all(word in str(error.value) for word in words) and '\n' not in str(error.value)
