"""A folder of images with a sub-folder for each class: which classes there are, and whose label is whose."""

import os
import pickle
from collections import Counter

import pytest
from helpers.pictures import write_photos
from torchvision.datasets import ImageFolder

from a2mim_mm.data import LabelledImages, SampleKey
from a2mim_mm.errors import InputError
from a2mim_mm.registry import DATASETS

LOAD = [dict(type='a2mim_mm.LoadImage')]
CROP = dict(type='mmpretrain.RandomCrop', crop_size=16)


def touch(folder, *paths: str) -> None:
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def classes(dataset: LabelledImages) -> list[str]:
    return list(dataset.metainfo['classes'])


def labels(dataset: LabelledImages, folder) -> dict[str, str]:
    """The class that each image's label means, by the image's path relative to the folder."""
    infos = map(dataset.get_data_info, range(len(dataset)))
    names = dataset.metainfo['classes']
    return {os.path.relpath(info['img_path'], folder): names[info['gt_label']] for info in infos}


def top_folders(found: dict[str, str]) -> dict[str, str]:
    """The class that each path should have."""
    return {path: path.split(os.sep)[0] for path in found}


# Classes.


def test_classes_are_the_folders_in_order_of_name(tmp_path):
    touch(tmp_path, 'dog/1.jpg', 'cat/2.png', 'cat/1.jpg', 'Zebra/0.jpg', '10/a.jpg', '9/a.jpg')
    dataset = LabelledImages(tmp_path)
    assert dataset.metainfo['classes'] == ('10', '9', 'Zebra', 'cat', 'dog')
    assert [dataset.get_data_info(index)['gt_label'] for index in range(6)] == [0, 1, 2, 3, 3, 4]
    found = labels(dataset, tmp_path)
    assert len(found) == 6 and found == top_folders(found)


def test_nested_images_belong_to_the_folder_at_the_top(tmp_path):
    touch(tmp_path, 'b/a/1.jpg', 'b/a/c/2.jpg', 'b/3.jpg', 'a/b/4.jpg')
    found = labels(LabelledImages(tmp_path), tmp_path)
    assert found == {'b/a/1.jpg': 'b', 'b/a/c/2.jpg': 'b', 'b/3.jpg': 'b', 'a/b/4.jpg': 'a'}


def test_names_that_begin_alike_are_different_classes(tmp_path):
    """Sorting by path puts 'cat-big/1.jpg' in front of 'cat/1.jpg', sorting by name 'cat' in front."""
    touch(tmp_path, 'cat/1.jpg', 'cat-big/1.jpg', 'cat big/1.jpg', 'cat.x/1.jpg', 'cats/1.jpg', 'cat0/1.jpg')
    dataset = LabelledImages(tmp_path)
    assert classes(dataset) == ['cat', 'cat big', 'cat-big', 'cat.x', 'cat0', 'cats']
    found = labels(dataset, tmp_path)
    assert len(found) == 6 and found == top_folders(found)


def test_folders_without_an_image_and_hidden_ones_are_no_class(tmp_path):
    touch(tmp_path, 'b/1.jpg', 'b/.2.jpg', '.cache/3.jpg', 'notes/x.txt', 'd/.hidden/4.jpg', 'readme.txt')
    (tmp_path / 'a' / 'empty').mkdir(parents=True)
    dataset = LabelledImages(tmp_path)
    assert classes(dataset) == ['b'] and labels(dataset, tmp_path) == {'b/1.jpg': 'b'}
    assert dataset.get_data_info(0)['gt_label'] == 0


def test_links_are_followed(tmp_path):
    touch(tmp_path, 'elsewhere/deep/1.jpg', 'store/2.jpg', 'data/m/3.jpg')
    data = tmp_path / 'data'
    (data / 'c').symlink_to(tmp_path / 'elsewhere')  # a class
    (data / 'm' / 'more').symlink_to(tmp_path / 'store')  # a folder within a class
    (data / 'm' / '4.jpg').symlink_to(tmp_path / 'elsewhere' / 'deep' / '1.jpg')
    found = labels(LabelledImages(data), data)
    assert found == {'c/deep/1.jpg': 'c', 'm/3.jpg': 'm', 'm/4.jpg': 'm', 'm/more/2.jpg': 'm'}


@pytest.mark.parametrize('kind', [str, lambda folder: f'{folder}/', lambda folder: folder])
def test_ways_to_write_the_folder(tmp_path, kind):
    touch(tmp_path, 'x/b/1.jpg', 'x/a/1.jpg')
    assert labels(LabelledImages(kind(tmp_path / 'x')), tmp_path / 'x') == {'a/1.jpg': 'a', 'b/1.jpg': 'b'}


@pytest.mark.parametrize('data_root', ['x', './x/', '.', '../{0}/x', 'y/../x'])
def test_relative_folder(tmp_path, monkeypatch, data_root):
    touch(tmp_path, 'x/b/1.jpg', 'x/a/1.jpg', 'y/c/1.jpg')
    monkeypatch.chdir(tmp_path)
    dataset = LabelledImages(data_root.format(tmp_path.name))
    assert classes(dataset) == (['x', 'y'] if data_root == '.' else ['a', 'b'])


def test_an_image_beside_the_classes_is_refused(tmp_path):
    touch(tmp_path, 'a/1.jpg', 'lost.jpg')
    with pytest.raises(
        ValueError, match=f'{tmp_path}/lost.jpg is not in the folder of a class: .*{tmp_path}.*'
    ):
        LabelledImages(tmp_path)
    with pytest.raises(ValueError, match='lost.jpg is not in the folder of a class'):
        LabelledImages(f'{tmp_path}/')


def test_two_data_sets_keep_their_own_classes(tmp_path):
    touch(tmp_path, 'x/a/1.jpg', 'y/b/1.jpg')
    first, second = LabelledImages(tmp_path / 'x'), LabelledImages(tmp_path / 'y')
    assert (classes(first), classes(second)) == (['a'], ['b'])
    assert 'classes' not in LabelledImages.METAINFO


def test_agrees_with_torchvision(tmp_path):
    for number, name in enumerate(['n02', 'n01', 'Beta', 'alpha', 'n10']):
        write_photos(tmp_path / name, 2 + number % 3, size=(8, 8))
        touch(tmp_path, f'{name}/z.PNG', f'{name}/10.jpeg', f'{name}/notes.txt')
    theirs, ours = ImageFolder(tmp_path), LabelledImages(tmp_path)
    assert classes(ours) == theirs.classes and len(theirs.classes) == 5
    infos = map(ours.get_data_info, range(len(ours)))
    assert [(info['img_path'], info['gt_label']) for info in infos] == theirs.samples


# Which images there are.


@pytest.mark.parametrize('serialize', [True, False])
def test_every_tenth_image_is_a_tenth_of_every_class(tmp_path, serialize):
    for name, count in dict(a=20, b=30, c=50, d=10).items():
        touch(tmp_path, *[f'{name}/{index:02}.jpg' for index in range(count)])
    whole = LabelledImages(tmp_path, serialize_data=serialize)
    tenth = LabelledImages(tmp_path, indices=list(range(0, len(whole), 10)), serialize_data=serialize)
    assert Counter(labels(tenth, tmp_path).values()) == dict(a=2, b=3, c=5, d=1)
    assert labels(tenth, tmp_path).items() < labels(whole, tmp_path).items()
    few = LabelledImages(tmp_path, indices=[109], serialize_data=serialize)
    assert classes(few) == ['a', 'b', 'c', 'd'] and few.get_data_info(0)['gt_label'] == 3


def test_repeats_keep_the_labels(tmp_path):
    for name in 'ab':
        write_photos(tmp_path / name, 2)
    dataset = LabelledImages(tmp_path, [*LOAD, CROP], repeats=3)
    assert [dataset[index]['gt_label'] for index in range(12)] == [0, 0, 1, 1] * 3
    assert classes(dataset) == ['a', 'b']
    assert len({dataset[index]['img'].tobytes() for index in (0, 4, 8)}) == 3


def test_a_list_of_files(tmp_path):
    write_photos(tmp_path / 'b' / 'deep', 2)
    touch(tmp_path, 'a/1.jpg', 'c/1.jpg', 'lost.jpg')
    (tmp_path / 'list.txt').write_text('c/1.jpg\nb/deep/0001.jpg\n./c/1.jpg\nb/deep/0000.jpg\n')
    dataset = LabelledImages(tmp_path, LOAD, ann_file='list.txt')
    assert classes(dataset) == ['b', 'c']
    assert [dataset.get_data_info(index)['gt_label'] for index in range(4)] == [1, 0, 1, 0]
    assert dataset[1]['gt_label'] == 0 and dataset[1]['img'].shape == (80, 100, 3)
    (tmp_path / 'list.txt').write_text('a/1.jpg\nlost.jpg\n')
    with pytest.raises(ValueError, match='lost.jpg is not in the folder of a class'):
        LabelledImages(tmp_path, ann_file='list.txt')
    (tmp_path / 'list.txt').write_text('a/1.jpg\n../other/b/1.jpg\n')
    with pytest.raises(ValueError, match='other/b/1.jpg is not in the folder of a class'):
        LabelledImages(tmp_path, ann_file='list.txt')


def test_built_from_a_config_late_and_in_a_worker(tmp_path):
    touch(tmp_path, 'b/1.jpg', 'a/1.jpg')
    config = dict(type='a2mim_mm.LabelledImages', data_root=str(tmp_path), lazy_init=True)
    dataset = DATASETS.build(config)
    dataset.full_init()
    copy = pickle.loads(pickle.dumps(dataset))
    assert classes(copy) == ['a', 'b'] and labels(copy, tmp_path) == {'a/1.jpg': 'a', 'b/1.jpg': 'b'}


# Samples.


def test_labels_reach_the_packed_sample(tmp_path):
    for name in ('x', 'b', 'm'):
        write_photos(tmp_path / name, 1, size=(16, 16))
    pack = dict(type='mmpretrain.PackInputs', algorithm_keys=('unreadable',))
    dataset = LabelledImages(tmp_path, [*LOAD, pack])
    assert [dataset[index]['data_samples'].gt_label.tolist() for index in range(3)] == [[0], [1], [2]]


def test_an_unreadable_image_is_replaced_along_with_its_label(tmp_path):
    for name in 'abcd':
        write_photos(tmp_path / name, 2)
    for path in (tmp_path / 'b').iterdir():
        path.write_bytes(b'')
    dataset = LabelledImages(tmp_path, LOAD)
    replaced = [dataset[SampleKey(0, epoch, index)] for epoch in range(8) for index in (2, 3)]
    assert all(sample['unreadable'][0].startswith(str(tmp_path / 'b')) for sample in replaced)
    pairs = [(os.path.relpath(sample['img_path'], tmp_path)[0], sample['gt_label']) for sample in replaced]
    assert set(pairs) == {('a', 0), ('c', 2), ('d', 3)}
    assert classes(dataset) == ['a', 'b', 'c', 'd']


def test_an_unreadable_image_of_a_test_is_an_error(tmp_path):
    write_photos(tmp_path / 'a', 2)
    (tmp_path / 'a' / '0001.jpg').write_bytes(b'')
    dataset = LabelledImages(tmp_path, LOAD, max_refetch=0)
    assert dataset[0]['unreadable'] == []
    with pytest.raises(InputError, match=r'not to be replaced \(max_refetch=0\): .*0001\.jpg: '):
        dataset[1]


def test_the_same_key_gives_the_same_crop(tmp_path):
    for name in 'ab':
        write_photos(tmp_path / name, 2)

    def crops(seed, epoch):
        dataset = LabelledImages(tmp_path, [*LOAD, CROP])
        return [dataset[SampleKey(seed, epoch, index)]['img'].tobytes() for index in range(4)]

    assert crops(0, 0) == crops(0, 0)
    assert len({*crops(0, 0), *crops(0, 1), *crops(1, 0)}) == 12
