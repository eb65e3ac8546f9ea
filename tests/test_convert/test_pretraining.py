"""The authors' whole pre-trainings become ours: decoder, token and gate included."""

import pytest
import torch
from helpers import peers
from helpers.toy_training import tool

from a2mim_mm.apis import load_model, reconstruct
from a2mim_mm.checkpoints import load_checkpoint_file
from a2mim_mm.convert import ConversionError, convert_checkpoint, pretraining, verify


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    """Lets CNNs be compared by small images."""
    monkeypatch.setattr(verify, '_CNN_SIZE', peers.SIZE)


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 10


def authors(kind):
    """A pre-training under the names of the authors' code (OpenMixup: mim_resnet, mim_vit, mim_neck)."""
    if kind == 'resnet':
        encoder, width, outputs = peers.mm_resnet(50), 2048, 3 * 32**2
        extra = {
            'backbone.mask_token': tensor(1, 1024, 1, 1, seed=1),
            'backbone.mask_gamma': tensor(1, 1024, 1, 1, seed=2),
        }
    else:
        encoder, width, outputs = peers.randomised(peers.mm_vit()), peers.WIDTH, 3 * peers.PATCH**2
        extra = {'backbone.mask_token': tensor(1, 1, peers.WIDTH, seed=1)}
    weights = {f'backbone.{name}': value for name, value in encoder.state_dict().items()}
    decoder = {
        'neck.decoder_pred.0.weight': tensor(outputs, width, 1, 1, seed=3),
        'neck.decoder_pred.0.bias': tensor(outputs, seed=4),
    }
    return encoder, dict(state_dict=weights | extra | decoder, meta={})


@pytest.mark.parametrize('kind', ['resnet', 'vit'])
def test_reconstructions_are_those_of_the_authors_parts(kind, tmp_path):
    encoder, checkpoint = authors(kind)
    torch.save(checkpoint, tmp_path / 'theirs.pth')
    arch = {'arch': f'heads={peers.HEADS}'} if kind == 'vit' else {}
    report = convert_checkpoint(tmp_path / 'theirs.pth', tmp_path / 'ours.pth', 'a2mim', **arch)
    assert report['dropped'] == {}
    model = load_model(tmp_path / 'ours.pth')
    theirs = checkpoint['state_dict']
    for name, other in pretraining.PARTS.items():
        if other[0] in theirs:
            assert torch.equal(model.state_dict()[name].flatten(), theirs[other[0]].flatten())
    site = dict(resnet='layer3', vit='patch_embed')[kind]
    assert model.mask_token.site == site and (model.mask_token.gate is None) == (kind == 'vit')

    # Without a mask: encoder, then their decoder, by hand.
    picture = peers.images(dtype=torch.float32)
    with torch.no_grad():
        tokens = encoder(picture)[-1]
        feat = tokens if kind == 'resnet' else tokens[:, 1:].mT.unflatten(2, (4, 4))
        pixels = torch.nn.functional.conv2d(
            feat, theirs['neck.decoder_pred.0.weight'], theirs['neck.decoder_pred.0.bias']
        )
        stride = 32 if kind == 'resnet' else peers.PATCH
        expected = torch.nn.functional.pixel_shuffle(pixels, stride)
        got = model.neck(model._last_map(model.backbone(picture), torch.zeros(2, 2, 2)))
    assert peers.difference(expected, got) < 1e-4


def test_the_tool_draws_from_it(tmp_path, sample_photos):
    _, checkpoint = authors('resnet')
    torch.save(checkpoint, tmp_path / 'theirs.pth')
    convert_checkpoint(tmp_path / 'theirs.pth', tmp_path / 'ours.pth', 'a2mim')
    pictures = reconstruct(load_model(tmp_path / 'ours.pth'), [sorted(sample_photos.iterdir())[0]])
    assert pictures['prediction'].isfinite().all()
    drawn = tmp_path / 'grid.png'
    arguments = [tmp_path / 'ours.pth', '--images', sample_photos, '--count', 1, '--out', drawn]
    tool('reconstruct').main([str(one) for one in arguments])
    assert drawn.stat().st_size > 10_000


def test_a_pretraining_of_ours_keeps_all_it_has(tmp_path):
    _, checkpoint = authors('resnet')
    torch.save(checkpoint, tmp_path / 'theirs.pth')
    convert_checkpoint(tmp_path / 'theirs.pth', tmp_path / 'once.pth', 'a2mim')
    convert_checkpoint(tmp_path / 'once.pth', tmp_path / 'twice.pth', 'a2mim')
    once, twice = (load_checkpoint_file(tmp_path / f'{name}.pth')['state_dict'] for name in ('once', 'twice'))
    assert peers.same_weights(once, twice)


@pytest.mark.parametrize(
    ('lost', 'words'),
    [
        ('backbone.mask_token', 'not hold backbone.mask_token'),
        ('neck.decoder_pred.0.weight', 'not hold neck.decoder_pred'),
    ],
)
def test_what_is_no_whole_pretraining_is_refused(tmp_path, lost, words):
    _, checkpoint = authors('resnet')
    del checkpoint['state_dict'][lost]
    torch.save(checkpoint, tmp_path / 'theirs.pth')
    with pytest.raises(ConversionError, match=words):
        convert_checkpoint(tmp_path / 'theirs.pth', tmp_path / 'ours.pth', 'a2mim')
    assert [path.name for path in tmp_path.iterdir()] == ['theirs.pth']


def test_small_resnets_say_that_their_site_is_open(tmp_path):
    torch.save(peers.mm_resnet(18).state_dict(), tmp_path / 'x.pth')
    with pytest.raises(ConversionError, match='ResNet-50 and deeper'):
        convert_checkpoint(tmp_path / 'x.pth', tmp_path / 'y.pth', 'a2mim')
