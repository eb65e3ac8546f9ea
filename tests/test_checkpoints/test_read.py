"""Checkpoints load wholly and without running code from the file, or not at all."""

import datetime
import os
import pickle
import zipfile
from pickle import UnpicklingError
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.toy_training import tool, write_config
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from safetensors.torch import save_file
from torch import nn

from a2mim_mm.checkpoints.errors import CheckpointError
from a2mim_mm.checkpoints.load import load_strictly
from a2mim_mm.checkpoints.read import install_safe_loader, load_checkpoint_file, load_from_local
from a2mim_mm.checkpoints.safe_pickle import Number, NumberArray
from a2mim_mm.checkpoints.write import safetensors_bytes
from a2mim_mm.engine.hooks.strict_load import StrictLoadHook


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A full checkpoint that training wrote."""
    folder = tmp_path_factory.mktemp('trained')
    config = write_config(folder, 'train_cfg.update(max_epochs=1)', name='checkpointed')
    tool('train').main([config, '--work-dir', str(folder / 'run')])
    return folder / 'run' / 'epoch_1.pth'


def test_full_checkpoint_of_mmengine_loads_as_it_was_saved(trained):
    loaded = load_checkpoint_file(trained)
    reference = torch.load(trained, weights_only=False)
    assert loaded.keys() == reference.keys() >= {'meta', 'message_hub', 'optimizer', 'param_schedulers'}
    assert loaded['meta'] == reference['meta']
    assert loaded['param_schedulers'] == reference['param_schedulers']
    for name, weight in reference['state_dict'].items():
        assert torch.equal(loaded['state_dict'][name], weight)
    for index, state in reference['optimizer']['state'].items():
        assert torch.equal(loaded['optimizer']['state'][index]['exp_avg'], state['exp_avg'])
    loss = loaded['message_hub']['log_scalars']['train/loss']
    expected = reference['message_hub']['log_scalars']['train/loss']
    assert len(loss.data[0]) == 4
    np.testing.assert_array_equal(loss.data, expected.data)
    assert loss.statistics('mean', 2) == expected.data[0][-2:].mean()


def test_arrays_that_numpy_1_pickled_load(tmp_path):
    path = tmp_path / 'old.pth'
    torch.save(dict(array=np.arange(3.0), scalar=np.float32(2)), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b'numpy._core.', b'numpy.core.'))
    assert b'numpy.core.multiarray' in path.read_bytes()
    loaded = load_checkpoint_file(path)
    assert loaded['array'].tolist() == [0, 1, 2] and loaded['scalar'] == 2


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize(
    ('wrap', 'named'),
    [
        (lambda call: call, 'posix.system'),
        (lambda call: dict(state_dict=dict(weight=[call])), 'posix.system'),
        (
            lambda call: [Call(getattr, Call(getattr, HistoryBuffer, '__init__'), '__globals__'), call],
            '__init__',
        ),
    ],
)
def test_code_in_a_checkpoint_never_runs(tmp_path, wrap, named, zipped):
    path, payload = tmp_path / 'evil.pth', tmp_path / 'payload'
    content = wrap(Call(os.system, f'touch {payload}'))
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    install_safe_loader()
    for load in (
        load_checkpoint_file,
        load_from_local,
        lambda path: load_checkpoint(nn.Conv2d(3, 3, 1), str(path)),
    ):
        with pytest.raises(CheckpointError, match='refused') as error:
            load(path)
        assert str(path) in str(error.value) and named in str(error.value)
    assert not payload.exists()
    # The payload is a real one:
    pickle.loads(pickle.dumps(Call(os.system, f'touch {payload}')))
    assert payload.exists()


def test_refusal_names_all_that_a_pickle_wants(tmp_path):
    path = tmp_path / 'mae.pth'
    torch.save(dict(model={}, time=datetime.timedelta(1), scaler=Call(os.getcwd)), path)
    with pytest.raises(CheckpointError, match='refused') as error:
        load_checkpoint_file(path)
    assert 'datetime.timedelta' in str(error.value) and 'posix.getcwd' in str(error.value)
    assert 'convert_checkpoint.py' in str(error.value)


def test_what_grows_while_it_is_read_is_refused(tmp_path):
    plain, bomb = tmp_path / 'plain.pth', tmp_path / 'bomb.pth'
    torch.save(dict(weight=torch.zeros(1000, 1000)), plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(bomb, 'w', zipfile.ZIP_DEFLATED) as packed:
        for entry in source.infolist():
            packed.writestr(entry.filename, source.read(entry))
    assert bomb.stat().st_size < plain.stat().st_size / 100
    with pytest.raises(CheckpointError, match='parts of this file are compressed.*unpack to 4,'):
        load_checkpoint_file(bomb)
    torch.save(dict(state_dict=[dict(weight=torch.zeros(1).expand(10**12))]), bomb)
    with pytest.raises(CheckpointError, match='is larger than the file'):
        load_checkpoint_file(bomb)


def test_archives_that_hide_their_size_and_endless_nests_are_refused_or_read(tmp_path):
    plain, path = tmp_path / 'plain.pth', tmp_path / 'x.pth'
    torch.save(dict(weight=torch.zeros(1000)), plain)
    path.write_bytes(plain.read_bytes().replace(b'PK\x01\x02\x00\x00\x00\x00', b'PK\x01\x02\x00\x00\x63\x00'))
    assert path.read_bytes() != plain.read_bytes()  # a version of zip that Python does not know
    with pytest.raises(CheckpointError, match='damaged'):
        load_checkpoint_file(path)
    nest = []
    for _ in range(60):  # 2 ** 60 leaves, if each were looked at
        nest = [nest, nest]
    torch.save(dict(nest=nest), path)
    assert list(load_checkpoint_file(path)) == ['nest']


@pytest.mark.parametrize('array', [np.array([object()]), np.array(['a']), np.zeros(2, dtype='V8')])
def test_arrays_of_anything_but_numbers_are_refused(tmp_path, array):
    path = tmp_path / 'x.pth'
    torch.save(dict(array=array), path)
    with pytest.raises(CheckpointError, match='refused'):
        load_checkpoint_file(path)


def test_a_dtype_cannot_be_told_to_hold_addresses(tmp_path):
    path, dtype = tmp_path / 'x.pth', Number('f8')
    for state in ((3, '|', ('f4', (1, 64)), None, None, 8, 8, 0), (3, '<', None, None, None, -1, -1, 63)):
        dtype.__setstate__(state)
        assert dtype.dtype == np.dtype('f8') and not dtype.dtype.hasobject
    with pytest.raises(UnpicklingError):
        NumberArray((1,), 'f8')
    array = np.asfortranarray(np.arange(6, dtype='>f4').reshape(2, 3))
    for _ in range(2):  # what was read is written as numpy's own again
        torch.save(dict(array=array, scalar=np.float32(2)), path)
        read = load_checkpoint_file(path)
        array = read['array']
        assert array.tolist() == [[0, 1, 2], [3, 4, 5]] and read['scalar'] == 2


def test_only_statistics_of_histories_pass_as_getattr(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(method=Call(getattr, HistoryBuffer, 'mean')), path)
    assert load_checkpoint_file(path)['method'] is HistoryBuffer.mean
    for owner, name in ((HistoryBuffer, 'update'), (torch.Tensor, 'mean'), (HistoryBuffer, '__init__')):
        torch.save(dict(method=Call(getattr, owner, name)), path)
        with pytest.raises(CheckpointError, match='refused'):
            load_checkpoint_file(path)


def test_config_text_in_a_checkpoint_is_not_run_on_resume(trained, tmp_path):
    payload = tmp_path / 'payload'
    checkpoint = load_checkpoint_file(trained)
    checkpoint['meta']['config'] = f'open({str(payload)!r}, "w")'
    path = tmp_path / 'evil.pth'
    torch.save(checkpoint, path)
    config = write_config(tmp_path, name='config_text')
    tool('train').main([config, '--work-dir', str(tmp_path / 'run'), '--resume', str(path)])
    assert (tmp_path / 'run' / 'epoch_2.pth').exists()
    assert not payload.exists()


def _text(path, trained):
    path.write_text('<!DOCTYPE html> 404')


def _truncated(path, trained):
    path.write_bytes(trained.read_bytes()[:-500])


def _other_zip(path, trained):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a.txt', 'text')


@pytest.mark.parametrize(
    ('write', 'message'),
    [
        (lambda path, trained: None, 'there is no checkpoint at'),
        (lambda path, trained: path.mkdir(), 'is a folder'),
        (lambda path, trained: path.touch(), 'is empty'),
        (_text, 'is not a checkpoint: it begins with'),
        (_truncated, 'is damaged or cut short'),
        (_other_zip, 'is damaged or cut short'),
        (lambda path, trained: path.write_bytes(pickle.dumps([1, 2])), 'is damaged'),
        (lambda path, trained: path.write_bytes(b'\x80\x02garbage' * 9), 'is damaged'),
        (lambda path, trained: torch.save([1, 2], path), 'holds a list, not a dict'),
    ],
    ids=['missing', 'folder', 'empty', 'text', 'truncated', 'zip', 'pickle', 'garbage', 'list'],
)
@pytest.mark.parametrize('name', ['x.pth', 'x.safetensors'])
def test_what_is_no_checkpoint_is_refused_with_the_reason(tmp_path, trained, write, message, name):
    path = tmp_path / name
    write(path, trained)
    if name == 'x.safetensors' and path.is_file() and path.stat().st_size:
        message = 'is damaged or not a safetensors file'
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint_file(path)
    assert str(path) in str(error.value)


def test_safetensors(tmp_path):
    save_file(dict(weight=torch.arange(4.0)), tmp_path / 'x.safetensors')
    assert load_checkpoint_file(tmp_path / 'x.safetensors')['weight'].tolist() == [0, 1, 2, 3]


def test_weights_that_share_memory_are_written_whole(tmp_path):
    """As those of a network that uses one module under two names."""
    values = torch.arange(6.0).view(2, 3)
    path = tmp_path / 'x.safetensors'
    path.write_bytes(safetensors_bytes(dict(one=values, same=values, view=values.T), 'model = dict(a=1)'))
    content = load_checkpoint_file(path)
    assert content['meta'] == dict(cfg='model = dict(a=1)')
    for name, expected in dict(one=values, same=values, view=values.T).items():
        assert torch.equal(content['state_dict'][name], expected)


def test_weights_load_wholly_or_not_at_all():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    weights = {name: torch.randn_like(weight.float()) for name, weight in model.state_dict().items()}
    del weights['1.num_batches_tracked']
    load_strictly(model, {f'module.{name}': weight for name, weight in weights.items()}, 'good.pth')
    assert torch.equal(model[0].weight, weights['0.weight'])

    weights['0.weight'] = torch.zeros(4, 5, 1, 1)
    weights['2.weight'] = weights.pop('1.bias')
    with pytest.raises(CheckpointError) as error:
        load_strictly(model, weights, 'bad.pth')
    for words in ('bad.pth', 'Sequential', '1 missing in the file (1.bias)'):
        assert words in str(error.value)
    assert '1 unknown to the model (2.weight)' in str(error.value)
    assert '1 of another shape (0.weight)' in str(error.value)


def test_long_lists_of_names_are_cut():
    model = nn.Sequential(*[nn.Linear(1, 1) for _ in range(9)])
    with pytest.raises(
        CheckpointError, match=r'18 missing in the file \(0\.weight, 0\.bias, .*, and 13 more\)'
    ):
        load_strictly(model, {}, 'x')


def test_hooks_behind_the_strict_one_see_plain_weights_as_a_checkpoint():
    """mmengine's EMAHook asks for the key."""
    model = nn.Linear(2, 3)
    weights = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    checkpoint = dict(weights)
    StrictLoadHook('plain.pth', resume=False).after_load_checkpoint(SimpleNamespace(model=model), checkpoint)
    assert checkpoint.keys() == {'state_dict'} and checkpoint['state_dict'] == weights
    assert torch.equal(model.weight, weights['weight'])
