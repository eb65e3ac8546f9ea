"""Every epoch sees other crops, through samplers and data sets of others too, or training does not begin."""

import pickle

import numpy as np
import pytest
import torch
from helpers.pictures import write_photos
from mmengine.dataset import (
    ClassBalancedDataset,
    ConcatDataset,
    DefaultSampler,
    InfiniteSampler,
    RepeatDataset,
)
from torch.utils.data import DataLoader, Subset

from a2mim_mm.data import KeyedSampler, SampleKey, UnlabelledImages
from a2mim_mm.data.dataset import check_keys, files_of

PIPELINE = [
    dict(type='a2mim_mm.LoadImage'),
    dict(type='a2mim_mm.RandomResizedCrop', scale=16, crop_ratio_range=(0.2, 0.9)),
]


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path, 3)
    return lambda: UnlabelledImages(tmp_path, pipeline=PIPELINE)


WRAPPERS = {
    'none': lambda make: make(),
    'concat': lambda make: ConcatDataset([make(), make()]),
    'repeat': lambda make: RepeatDataset(make(), times=2),
    'torch': lambda make: torch.utils.data.ConcatDataset([make(), make()]),
}


def epochs(dataset, workers, count=2):
    """The crops of each epoch, in order."""
    sampler = KeyedSampler(dataset, shuffle=False, seed=5)
    loader = DataLoader(
        dataset, 2, sampler=sampler, num_workers=workers, collate_fn=list, persistent_workers=workers > 0
    )
    check_keys(loader)
    found = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        found.append([sample['img'].tobytes() for batch in loader for sample in batch])
    return found


@pytest.mark.parametrize('name', WRAPPERS)
def test_wrapped_data_sets_have_fresh_and_reproducible_crops(name, photos):
    dataset = WRAPPERS[name](photos)
    first, second = epochs(dataset, workers=0)
    assert len(first) == len(dataset) and len({*first, *second}) == 2 * len(dataset)
    assert epochs(WRAPPERS[name](photos), workers=2) == [first, second]
    assert len(files_of(dataset)) == (2 if name in ('concat', 'torch') else 1)


def subset(make):
    return Subset(make(), [0, 2])


def balanced(make):
    dataset = make()
    dataset.get_cat_ids = lambda index: [index]
    return ClassBalancedDataset(dataset, oversample_thr=1e-3)


@pytest.mark.parametrize(
    ('wrap', 'sampler', 'culprit'),
    [
        (WRAPPERS['none'], DefaultSampler, 'DefaultSampler'),
        (WRAPPERS['none'], InfiniteSampler, 'InfiniteSampler'),
        (WRAPPERS['concat'], DefaultSampler, 'DefaultSampler'),
        (WRAPPERS['none'], lambda dataset: torch.utils.data.RandomSampler(dataset), 'RandomSampler'),
        (subset, KeyedSampler, 'Subset'),
        (balanced, KeyedSampler, 'ClassBalancedDataset'),
    ],
)
def test_plain_numbers_are_refused_in_training(wrap, sampler, culprit, photos):
    dataset = wrap(photos)
    with pytest.raises(ValueError, match=f'{culprit} passes plain numbers on.*a2mim_mm.KeyedSampler'):
        check_keys(DataLoader(dataset, 2, sampler=sampler(dataset)))


def test_plain_numbers_mean_one_fixed_crop_for_evaluation(photos):
    dataset = photos()
    assert dataset[1]['img'].tobytes() == dataset[SampleKey(0, 0, 1)]['img'].tobytes()
    assert dataset[-1]['img'].tobytes() == dataset[np.int64(2)]['img'].tobytes()


def test_other_data_sets_are_left_alone():
    check_keys(DataLoader(range(4), 2))


def test_a_key_is_an_index_that_keeps_where_it_came_from():
    key = SampleKey(7, 3, 12)
    inner = key - 10
    assert (inner, inner.index, inner.words) == (SampleKey(7, 3, 2, 12), 2, (7, 3, 12))
    assert (key % 5).words == (7, 3, 12) and [*'abc'][inner] == 'c'
    assert pickle.loads(pickle.dumps(inner)) == inner != SampleKey(7, 3, 2)
    assert len({key, SampleKey(7, 3, 12), SampleKey(7, 4, 12), inner}) == 3
