"""pretrain(): a folder and a network to a checkpoint, a config, and a run that goes on."""

import re

import pytest
import torch
from helpers.configs import load_config
from helpers.peers import torchvision_resnet
from helpers.toy_training import read_log, tool
from torch import nn

from a2mim_mm import pretrain
from a2mim_mm.apis import load_backbone
from a2mim_mm.backbones.given_module import _GIVEN
from a2mim_mm.checkpoints import CheckpointError, load_checkpoint_file
from a2mim_mm.errors import InputError


def network():
    """Strides 4 and 8, in milliseconds."""
    torch.manual_seed(0)
    stages = [
        nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(4, 8, 2, 2), nn.ReLU()),
    ]
    return nn.Sequential(*stages)


@pytest.fixture
def call(sample_photos, tmp_path):
    """Pre-trains in tmp_path/out at 32 pixels, for two epochs; changes are arguments."""

    def pretrained(*backbone, **changes):
        settings = dict(out=tmp_path / 'out', image_size=32, epochs=2, workers=0)
        if not backbone:
            settings['backbone'] = network()
        return pretrain(sample_photos, *backbone, **{**settings, **changes})

    return pretrained


def weights(path):
    return load_checkpoint_file(path)['state_dict']


def test_a_module_is_trained_and_a_second_call_finds_it_complete(call, tmp_path):
    checkpoint = call()
    assert checkpoint == tmp_path / 'out' / 'epoch_2.pth'
    model = load_checkpoint_file(checkpoint)
    assert set(network().state_dict()) == {
        name.removeprefix('backbone.') for name in model['state_dict'] if name.startswith('backbone.')
    }
    backbone = load_backbone(tmp_path / 'out' / 'backbone.safetensors', backbone=network())
    assert torch.equal(backbone[0][0].weight, model['state_dict']['backbone.0.0.weight'])
    assert backbone.pretrained_cfg['input_size'] == (3, 32, 32) and not backbone.training
    with pytest.raises(CheckpointError, match='give the module again, to pretrain'):
        _GIVEN.clear()
        load_backbone(checkpoint)
    assert [*(tmp_path / 'out' / 'reconstructions').glob('*.png')]
    assert call() == checkpoint
    assert 'already complete' in read_log(tmp_path / 'out')
    assert '12 images are few' in read_log(tmp_path / 'out')


def test_a_call_goes_on_where_the_last_was_stopped(call, tmp_path):
    whole = weights(call())
    (tmp_path / 'out' / 'epoch_2.pth').unlink()
    (tmp_path / 'out' / 'last_checkpoint').write_text(str(tmp_path / 'out' / 'epoch_1.pth'))
    assert 'resuming from' not in read_log(tmp_path / 'out')
    again = weights(call())
    assert 'resuming from' in read_log(tmp_path / 'out')
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(epochs=3), 'settings.epochs is 2 there, and 3 is asked for'),
        (dict(seed=1), 'randomness.seed is 0 there, and 1 is asked for'),
        (dict(backbone=nn.Conv2d(3, 4, 8, 8)), "model.backbone.name is 'Sequential' there"),
    ],
)
def test_other_settings_are_refused_by_name(call, changes, message):
    call()
    with pytest.raises(InputError, match=re.escape(message)):
        call(**changes)


def test_a_changed_file_is_refused_and_overwrite_replaces_it(call, tmp_path):
    call()
    path = tmp_path / 'out' / 'config.py'
    path.write_text(path.read_text() + 'model["mask"] = dict(ratio=0.3)\n')
    with pytest.raises(InputError, match='model.mask.ratio is 0.3 there, and 0.6 is asked for'):
        call()
    call(overwrite=True, epochs=1)
    assert load_config(str(path)).model.mask.ratio == 0.6
    assert (tmp_path / 'out' / 'last_checkpoint').read_text().endswith('epoch_1.pth')


def test_what_is_open_stays_as_it_was_chosen(call, tmp_path):
    """A second call may run on another machine, whose memory would give another batch."""
    call(batch_size=4)
    call()
    assert load_config(str(tmp_path / 'out' / 'config.py')).train_dataloader.batch_size == 4


def test_settings_that_fail_leave_no_claim_on_the_folder(call):
    with pytest.raises(InputError, match='100 x 100'):
        call('timm:resnet18', image_size=100)
    call()


def test_the_config_trains_with_the_tool(call, tmp_path):
    call('resnet18_cifar10', epochs=1, batch_size=12)
    path = tmp_path / 'out' / 'config.py'
    assert f'tools/train.py {path}' in path.read_text()
    cfg = load_config(str(path))
    assert cfg.model.mask.patch_size == 4 and cfg.train_cfg.max_epochs == 1
    assert cfg.train_dataloader.batch_size == 12 and cfg.train_dataloader.dataset.pipeline[1].scale == 32
    trained = weights(tmp_path / 'out' / 'epoch_1.pth')
    tool('train').main([str(path), '--work-dir', str(tmp_path / 'again')])
    again = weights(tmp_path / 'again' / 'epoch_1.pth')
    assert all(torch.equal(trained[name], again[name]) for name in trained)
    backbone = load_backbone(tmp_path / 'out' / 'epoch_1.pth')
    assert backbone.pretrained_cfg['input_size'] == (3, 32, 32)


def test_weights_of_others_say_the_network(call, tmp_path):
    path = tmp_path / 'r18.pth'
    torch.save(torchvision_resnet(18).state_dict(), path)
    call(None, pretrained=path, image_size=64, epochs=1)
    cfg = load_config(str(tmp_path / 'out' / 'config.py'))
    assert cfg.model.backbone == dict(cfg.model.backbone, type='mmpretrain.ResNet', depth=18)
    assert cfg.start == 'pretrained' and cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.85
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.25 * 1.2e-3 * (12 / 2048) ** 0.5, rel=1e-3)
    assert re.search(r'loaded +120 ', read_log(tmp_path / 'out'))


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(epochs=0), "epochs must be a positive whole number or 'auto', got 0"),
        (dict(batch_size='all'), "batch_size must be a positive whole number or 'auto', got 'all'"),
        (dict(image_size=37), 'image_size is 37 x 37'),
        (dict(backbone='vit_base'), 'no mask patch of at least 16 pixels, the finest map of the network'),
    ],
)
def test_impossible_settings_are_refused(call, tmp_path, changes, message):
    with pytest.raises(InputError, match=re.escape(message)):
        call(**changes)
    assert not [*tmp_path.glob('out/*.pth')]


def test_out_may_not_be_a_file(call, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match='is a file: name a folder'):
        call(out=tmp_path / 'file')


def test_a_training_of_another_tool_is_not_touched(call, tmp_path):
    call()
    (tmp_path / 'out' / 'config.py').unlink()
    with pytest.raises(InputError, match='there is a training in'):
        call()
