"""The samplers that send the epoch along with the index."""

from collections import Counter

import pytest
import torch
from helpers.pictures import write_photos
from mmengine.dataset import DefaultSampler
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmpretrain.datasets.samplers import RepeatAugSampler

from a2mim_mm.data import KeyedRepeatAugSampler, KeyedSampler, SampleKey, UnlabelledImages
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


@pytest.mark.parametrize('kind', [KeyedSampler, KeyedRepeatAugSampler])
def test_the_epoch_is_that_of_the_start_of_the_iteration(kind):
    sampler = kind(range(4), seed=0)
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
        return {'inputs': torch.tensor(key.words)}


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


# Repeated augmentation.


@pytest.fixture
def ranks(monkeypatch):
    """Makes the KeyedRepeatAugSamplers of all ranks."""

    def make(count, dataset=range(24), **kwargs):
        samplers = []
        for rank in range(count):
            monkeypatch.setattr(
                'mmpretrain.datasets.samplers.repeat_aug.get_dist_info', lambda rank=rank: (rank, count)
            )
            config = dict(type='a2mim_mm.KeyedRepeatAugSampler', dataset=dataset, seed=3, **kwargs)
            samplers.append(DATA_SAMPLERS.build(config))
        return samplers

    return make


def interleaved(samplers):
    """The keys of all ranks, in the order of a step's images."""
    return [key for keys in zip(*samplers, strict=True) for key in keys]


@pytest.mark.parametrize('count', [1, 2, 3, 4, 5])
@pytest.mark.parametrize('shuffle', [True, False])
def test_copies_of_an_image_have_keys_of_their_own(ranks, count, shuffle):
    samplers = ranks(count, shuffle=shuffle)
    keys = interleaved(samplers)
    assert len(keys) == count * len(samplers[0]) and all(isinstance(key, SampleKey) for key in keys)
    assert len(set(keys)) == len(keys)
    plain = [list(RepeatAugSampler.__iter__(sampler)) for sampler in samplers]
    assert [key.index for key in keys] == [index for step in zip(*plain, strict=True) for index in step]
    for start in range(0, len(keys), 3):  # whole triples, and what is left at the end
        triple = keys[start : start + 3]
        assert len({key.index for key in triple}) == 1
        assert len({key.seed for key in triple}) == len(triple)


def test_copies_of_an_image_go_to_different_ranks(ranks):
    first, second, third = map(list, ranks(3))
    assert [key.index for key in first] == [key.index for key in second] == [key.index for key in third]
    assert len(first) == 8
    for keys in zip(first, second, third, strict=True):
        assert len({key.seed for key in keys}) == 3


@pytest.mark.parametrize('count', [1, 2, 3, 6])
def test_an_epoch_visits_a_third_of_the_images(ranks, count):
    visits = Counter(key.index for key in interleaved(ranks(count)))
    assert len(visits) == 24 // 3 and set(visits.values()) == {3}


def test_number_of_versions(ranks):
    keys = interleaved(ranks(2, num_repeats=4))
    assert Counter(Counter(key.index for key in keys).values()) == {4: 6}
    assert len(set(keys)) == 24


def test_epochs_and_seeds_share_no_key(ranks):
    samplers = ranks(3)
    epochs = []
    for epoch in range(6):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        epochs.append(interleaved(samplers))
    assert all({key.epoch for key in keys} == {epoch} for epoch, keys in enumerate(epochs))
    assert epochs[0] != epochs[1] and {key.index for key in sum(epochs, [])} > {
        key.index for key in epochs[0]
    }
    # What the randomness follows from is another for each epoch, version and seed, whatever the image.
    seeds = {key.seed for key in epochs[0]}
    for neighbour in (2, 4):
        others = DATA_SAMPLERS.build(
            dict(type='a2mim_mm.KeyedRepeatAugSampler', dataset=range(24), seed=neighbour)
        )
        assert not seeds & {key.seed for key in others}


def test_one_order_on_every_machine(ranks):
    assert interleaved(ranks(3)) == interleaved(ranks(3)) == interleaved(ranks(1))


def test_keys_are_equal_where_the_sampler_pads_alone(ranks):
    samplers = ranks(8, dataset=range(2))  # 6 copies for 8 ranks: the first two once more
    keys = interleaved(samplers)
    assert len(set(keys[:6])) == 6 and keys[6:] == keys[:2]
    keys = interleaved(ranks(5, dataset=range(7)))  # 10 of 21 copies: no padding
    assert len(keys) == len(set(keys)) == 10


def test_data_set_takes_the_keys_of_repeated_augmentation(ranks, tmp_path):
    write_photos(tmp_path, 6)
    crop = dict(type='mmpretrain.RandomCrop', crop_size=16)
    dataset = UnlabelledImages(tmp_path, [dict(type='a2mim_mm.LoadImage'), crop])
    first, second, third = ([dataset[key] for key in sampler] for sampler in ranks(3, dataset=dataset))
    for samples in zip(first, second, third, strict=True):
        assert len({sample['img_path'] for sample in samples}) == 1
        assert len({sample['img'].tobytes() for sample in samples}) == 3
