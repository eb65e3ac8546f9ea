"""The authors' whole pre-trainings become ours: decoder, token and gate included."""

from functools import cache

import pytest
import torch
from helpers import peers

from a2mim_mm.apis import load_model, reconstruct
from a2mim_mm.checkpoints import load_checkpoint_file
from a2mim_mm.convert import ConversionError, convert_checkpoint, pretraining, verify

DECODER = 'neck.decoder_pred.0'


@pytest.fixture(scope='module', autouse=True)
def small_images():
    """Lets CNNs be compared by small images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, '_CNN_SIZE', peers.SIZE)
        yield


@cache
def authors(kind):
    """A pre-training under the names of the authors' code (OpenMixup: mim_resnet, mim_vit, mim_neck)."""
    if kind == 'resnet':
        encoder, width, outputs = peers.mm_resnet(50), 2048, 3 * 32**2
        extra = {f'backbone.mask_{name}': torch.randn(1, 1024, 1, 1) for name in ('token', 'gamma')}
    else:
        encoder, width, outputs = peers.randomised(peers.mm_vit()), peers.WIDTH, 3 * peers.PATCH**2
        extra = {'backbone.mask_token': torch.randn(1, 1, peers.WIDTH)}
    weights = {f'backbone.{name}': value for name, value in encoder.state_dict().items()}
    decoder = {
        f'{DECODER}.weight': torch.randn(outputs, width, 1, 1),
        f'{DECODER}.bias': torch.randn(outputs),
    }
    return encoder, weights | extra | decoder


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
    """The authors' pre-trainings, converted once, with the reports."""
    folder, reports = tmp_path_factory.mktemp('pretraining'), {}
    for kind in ('resnet', 'vit'):
        torch.save(dict(state_dict=authors(kind)[1], meta={}), folder / 'theirs.pth')
        arch = f'heads={peers.HEADS}' if kind == 'vit' else None
        path = folder / f'{kind}.pth'
        reports[kind] = path, convert_checkpoint(folder / 'theirs.pth', path, 'a2mim', arch=arch)
    return reports


@pytest.mark.parametrize(('kind', 'site', 'stride'), [('resnet', 'layer3', 32), ('vit', 'patch_embed', 16)])
@torch.no_grad()
def test_reconstructions_are_those_of_the_authors_parts(converted, kind, site, stride):
    path, report = converted[kind]
    assert report['dropped'] == {}
    encoder, theirs = authors(kind)
    model = load_model(path)
    for name, other in pretraining.PARTS.items():
        if other[0] in theirs:
            assert torch.equal(model.state_dict()[name].flatten(), theirs[other[0]].flatten())
    assert model.mask_token.site == site and (model.mask_token.gate is None) == (kind == 'vit')

    # Without a mask: encoder, then their decoder, by hand.
    picture = peers.images(dtype=torch.float32)
    tokens = encoder(picture)[-1]
    feat = tokens if kind == 'resnet' else tokens[:, 1:].mT.unflatten(2, (4, 4))
    pixels = torch.nn.functional.conv2d(feat, theirs[f'{DECODER}.weight'], theirs[f'{DECODER}.bias'])
    expected = torch.nn.functional.pixel_shuffle(pixels, stride)
    got = model.neck(model._last_map(model.backbone(picture), torch.zeros(2, 2, 2)))
    assert peers.difference(expected, got) < 1e-4


def test_it_reconstructs_photos(converted, sample_photos):
    pictures = reconstruct(load_model(converted['resnet'][0]), [sorted(sample_photos.iterdir())[0]])
    assert pictures['prediction'].isfinite().all()


def test_a_pretraining_of_ours_keeps_all_it_has(converted, tmp_path):
    path, _ = converted['resnet']
    convert_checkpoint(path, tmp_path / 'twice.pth', 'a2mim')
    once, twice = (load_checkpoint_file(file)['state_dict'] for file in (path, tmp_path / 'twice.pth'))
    assert peers.same_weights(once, twice)


@pytest.mark.parametrize(
    ('name', 'value', 'words'),
    [
        ('backbone.mask_token', None, 'not hold backbone.mask_token'),
        (f'{DECODER}.weight', None, f'not hold {DECODER}'),
        (f'{DECODER}.weight', torch.ones(8, 2048, 1, 1), 'not a 1 x 1 convolution to RGB patches'),
        ('backbone.mask_token', torch.ones(1, 100, 1, 1), 'a token of 100 channels fits none of the stages'),
    ],
)
def test_what_is_no_whole_pretraining_is_refused(tmp_path, name, value, words):
    weights = authors('resnet')[1] | {name: value}
    state = {key: tensor for key, tensor in weights.items() if tensor is not None}
    torch.save(dict(state_dict=state), tmp_path / 'theirs.pth')
    with pytest.raises(ConversionError, match=words):
        convert_checkpoint(tmp_path / 'theirs.pth', tmp_path / 'ours.pth', 'a2mim', verify=False)
    assert [path.name for path in tmp_path.iterdir()] == ['theirs.pth']


def test_small_resnets_say_that_their_site_is_open(tmp_path):
    torch.save(peers.mm_resnet(18).state_dict(), tmp_path / 'x.pth')
    with pytest.raises(ConversionError, match='ResNet-50 and deeper'):
        convert_checkpoint(tmp_path / 'x.pth', tmp_path / 'y.pth', 'a2mim')
