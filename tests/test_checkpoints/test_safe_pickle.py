"""Raw pickles of arrays: what numpy needs passes, and no other name."""

import os
import pickle

import numpy as np
import pytest
import torch

from a2mim_mm.checkpoints import CheckpointError
from a2mim_mm.checkpoints.read import read_array_pickle
from a2mim_mm.convert import convert_checkpoint


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('protocol', [0, 1, 2, 3, 4, 5])
def test_arrays_of_all_protocols_are_read(tmp_path, protocol):
    path = tmp_path / 'a.pkl'
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = {'model': {'weight': array, 'steps': np.asarray(3)}, '__author__': 'MOCO', 'flag': True}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    if protocol < 3:  # these write bytes as a call of _codecs.encode
        with pytest.raises(CheckpointError, match='_codecs.encode'):
            read_array_pickle(path)
        return
    read = read_array_pickle(path)
    assert np.array_equal(read['model']['weight'], array) and read['model']['steps'] == 3
    assert read['__author__'] == 'MOCO'


@pytest.mark.parametrize('protocol', [2, 4])
@pytest.mark.parametrize(
    'wrap',
    [
        lambda call: call,
        lambda call: {'model': {'weight': call}},
        lambda call: {'model': [Call(getattr, Call(getattr, np.ndarray, 'tobytes'), '__class__'), call]},
        lambda call: {'model': np.array([call], dtype=object)},
    ],
)
def test_code_in_a_pickle_never_runs(tmp_path, wrap, protocol):
    path, payload = tmp_path / 'evil.pkl', tmp_path / 'payload'
    path.write_bytes(pickle.dumps(wrap(Call(os.system, f'touch {payload}')), protocol=protocol))
    for read in (read_array_pickle, lambda path: convert_checkpoint(path, tmp_path / 'x.pth', 'mmpretrain')):
        with pytest.raises(CheckpointError, match='refused') as error:
            read(path)
        assert str(path) in str(error.value)
    assert not payload.exists() and not (tmp_path / 'x.pth').exists()
    pickle.loads(path.read_bytes())  # the payload is a real one
    assert payload.exists()


@pytest.mark.parametrize('value', [torch.device('cpu'), np.linalg.norm], ids=['torch', 'numpy'])
def test_names_that_are_wanted_are_in_the_message(tmp_path, value):
    path = tmp_path / 'a.pkl'
    path.write_bytes(pickle.dumps(dict(model={}, args=value)))
    with pytest.raises(CheckpointError, match=r'would call (torch\.device|numpy\.linalg)'):
        read_array_pickle(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'damaged or not a pickle: EOFError'),
        (b'<!DOCTYPE html>', 'damaged'),
        (pickle.dumps(dict(model=np.zeros(1000)))[:-300], 'damaged'),
        (pickle.dumps([1]), 'holds a list, not a dict'),
        (pickle.dumps(np._core.multiarray._reconstruct), 'holds a function'),
    ],
    ids=['empty', 'text', 'truncated', 'list', 'function'],
)
def test_what_is_no_pickle_of_weights_is_refused(tmp_path, content, message):
    path = tmp_path / 'a.pkl'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_array_pickle(path)
