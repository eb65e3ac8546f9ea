"""The sampler that sends the epoch along with the index."""

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.model import BaseModel
from mmengine.runner import Runner

from a2mim_mm.data import KeyedSampler, SampleKey
from a2mim_mm.registry import DATA_SAMPLERS


@pytest.mark.parametrize('shuffle', [True, False])
def test_indices_are_those_of_the_default_sampler(shuffle):
    keyed, default = (kind(range(23), shuffle=shuffle, seed=7) for kind in (KeyedSampler, DefaultSampler))
    for epoch in (0, 3):
        keyed.set_epoch(epoch)
        default.set_epoch(epoch)
        assert list(keyed) == [SampleKey(7, epoch, index) for index in default]
        assert all(isinstance(key, SampleKey) for key in keyed)
    assert len(keyed) == 23


def test_the_epoch_is_that_of_the_start_of_the_iteration():
    sampler = KeyedSampler(range(4), seed=0)
    keys = iter(sampler)
    sampler.set_epoch(1)
    assert {key.epoch for key in keys} == {0}


def test_ranks_share_the_keys_of_one_process(monkeypatch):
    def keys(rank, ranks):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, ranks))
        sampler = DATA_SAMPLERS.build(dict(type='a2mim_mm.KeyedSampler', dataset=range(9), seed=3))
        sampler.set_epoch(2)
        return list(sampler)

    whole = keys(0, 1)
    first, second = keys(0, 2), keys(1, 2)
    # Nine samples do not divide: the tenth is a repetition of the first.
    assert [key for pair in zip(first, second, strict=True) for key in pair] == [*whole, whole[0]]


class Samples(torch.utils.data.Dataset):
    """Returns the key it was asked for."""

    def __len__(self):
        return 3

    def __getitem__(self, key):
        return {'inputs': torch.tensor(key)}


class Recorder(BaseModel):
    """Keeps the keys it sees in training."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.keys = []

    def forward(self, inputs, mode='loss'):
        self.keys += inputs.tolist()
        return dict(loss=self.weight * 1.0)


def test_mmengines_runner_sends_seed_and_epoch_without_any_hook_of_ours(tmp_path):
    model = Recorder()
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=dict(
            dataset=Samples(),
            sampler=dict(type='a2mim_mm.KeyedSampler', shuffle=True),
            batch_size=2,
            num_workers=1,
            persistent_workers=True,
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        randomness=dict(seed=9),
        experiment_name=tmp_path.name,
    )
    runner.train()
    assert [key[:2] for key in model.keys] == [[9, epoch] for epoch in range(3) for _ in range(3)]
    for epoch in range(3):
        assert sorted(index for _, of, index in model.keys if of == epoch) == [0, 1, 2]
