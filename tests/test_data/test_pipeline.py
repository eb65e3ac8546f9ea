"""Crop, flip and mask follow from (seed, epoch, index): not from workers, ranks or restarts."""

import numpy as np
import pytest
import torch
from helpers.pictures import write_photos
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import Runner

PIPELINE = [
    dict(type='a2mim_mm.LoadImage'),
    dict(
        type='RandomResizedCrop',
        scale=64,
        crop_ratio_range=(0.67, 1.0),
        backend='cv2',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='a2mim_mm.MaskSeed'),
    dict(type='PackInputs', algorithm_keys=('mask_seed', 'unreadable')),
]
COUNT = 11


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Eleven photos, one of them unreadable, two of them smaller than the crop."""
    folder = tmp_path_factory.mktemp('photos')
    paths = write_photos(folder, COUNT)
    for path, small in zip(paths[4:6], write_photos(folder / 'small', 2, size=(20, 24)), strict=True):
        small.rename(path)
    paths[7].write_bytes(paths[7].read_bytes()[:300])
    return folder


@pytest.fixture(autouse=True)
def mmpretrain_scope():
    before = DefaultScope.get_current_instance()
    init_default_scope('mmpretrain')
    yield
    if before is not None:
        init_default_scope(before.scope_name)


def loader(folder, num_workers=0, persistent=False, seed=5, batch_size=4):
    config = dict(
        batch_size=batch_size,
        num_workers=num_workers,
        persistent_workers=persistent,
        sampler=dict(type='a2mim_mm.KeyedSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
        dataset=dict(type='a2mim_mm.UnlabelledImages', data_root=str(folder), pipeline=PIPELINE),
    )
    return Runner.build_dataloader(config, seed=seed)


def epochs(batches, *numbers) -> list[dict]:
    """For each epoch: image and mask seed under their (index, epoch), in order."""
    found = []
    for number in numbers:
        batches.sampler.set_epoch(number)
        samples = {}
        for batch in batches:
            for img, sample in zip(batch['inputs'], batch['data_samples'], strict=True):
                samples.setdefault(sample.sample_idx, []).append((img, sample.mask_seed, sample.unreadable))
        found.append(samples)
    return found


def assert_same(first: dict, second: dict) -> None:
    assert list(first) == list(second)
    for ours, theirs in zip(first.values(), second.values(), strict=True):
        for (img, seed, unreadable), (img_2, seed_2, unreadable_2) in zip(ours, theirs, strict=True):
            assert torch.equal(img, img_2)
            assert (seed, unreadable) == (seed_2, unreadable_2)


def test_what_a_batch_is_made_of(folder):
    batch = next(iter(loader(folder)))
    assert batch['inputs'].shape == (4, 3, 64, 64) and batch['inputs'].dtype == torch.uint8
    assert isinstance(batch['data_samples'], list)
    for sample in batch['data_samples']:
        assert isinstance(sample.mask_seed, int)
        assert isinstance(sample.unreadable, list) and sample.img_path.endswith('.jpg')


def test_the_unreadable_image_is_named_in_the_main_process(folder):
    for num_workers in (0, 2):
        samples = [sample for batch in loader(folder, num_workers) for sample in batch['data_samples']]
        assert len(samples) == COUNT
        named = [text for sample in samples for text in sample.unreadable]
        assert len(named) == 1 and named[0].startswith(f'{folder}/0007.jpg: damaged or truncated file')


@pytest.mark.parametrize('num_workers, persistent', [(1, False), (2, False), (2, True)])
def test_workers_do_not_matter(folder, num_workers, persistent):
    np.random.seed()
    torch.seed()
    wanted = epochs(loader(folder), 0, 1)
    for first, second in zip(epochs(loader(folder, num_workers, persistent), 0, 1), wanted, strict=True):
        assert_same(first, second)


def test_restarts_do_not_matter(folder):
    wanted = epochs(loader(folder), 0, 1)[1]
    assert_same(epochs(loader(folder), 1)[0], wanted)


def test_the_batch_size_does_not_matter(folder):
    assert_same(epochs(loader(folder, batch_size=3), 1)[0], epochs(loader(folder), 1)[0])


def test_ranks_do_not_matter(folder, monkeypatch):
    [wanted] = epochs(loader(folder), 1)
    shared = []
    for rank in (0, 1):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        shared.extend(epochs(loader(folder, batch_size=2), 1))
    seen = {index: [*shared[0].get(index, []), *shared[1].get(index, [])] for index in wanted}
    for index, samples in wanted.items():
        for img, seed, _ in samples:
            assert any(torch.equal(img, other[0]) and seed == other[1] for other in seen[index])


def test_epochs_and_seeds_do_matter(folder):
    first, second = epochs(loader(folder, 2, persistent=True), 0, 1)
    [other_seed] = epochs(loader(folder, seed=6), 0)
    for other in (second, other_seed):
        for index in set(first) & set(other):
            assert not torch.equal(first[index][0][0], other[index][0][0])
            assert first[index][0][1] != other[index][0][1]


def test_samples_of_an_epoch_have_masks_of_their_own(folder):
    [samples] = epochs(loader(folder), 0)
    assert len({seed for drawn in samples.values() for _, seed, _ in drawn}) == COUNT


def test_crops_are_flipped_half_of_the_time(folder):
    flips = []
    batches = loader(folder)
    for epoch in range(12):
        batches.sampler.set_epoch(epoch)
        flips += [sample.flip for batch in batches for sample in batch['data_samples']]
    assert 0.3 < np.mean(flips) < 0.7
