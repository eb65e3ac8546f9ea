"""Folders of unlabelled images: what is found in them, what is passed over, what is said of an empty one."""

import codecs
import os
import pickle

import numpy as np
import pytest
from helpers.pictures import encode, picture, write_photos
from PIL import Image, features

from a2mim_mm.data import SampleKey, UnlabelledImages, UnreadableImageError
from a2mim_mm.data import dataset as dataset_module
from a2mim_mm.errors import InputError
from a2mim_mm.registry import DATASETS

LOAD = [dict(type='a2mim_mm.LoadImage')]


def names(dataset: UnlabelledImages, folder) -> list[str]:
    """Paths of all images, relative to the folder."""
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    return [os.path.relpath(path, folder).replace(os.sep, '/') for path in paths]


def touch(folder, *paths: str) -> None:
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


# What is found.


def test_endings_of_phones_and_scanners_are_taken_and_others_counted(tmp_path, monkeypatch):
    touch(
        tmp_path,
        'a.jpg',
        'b.JFIF',
        'c.jpe',
        'd.avif',
        'e.jp2',
        'f.pnm',
        'g.heic',
        'h.HEIC',
        'i.mov',
        'LICENSE',
    )
    said = []
    monkeypatch.setattr(dataset_module, 'print_log', lambda message, **_: said.append(message))
    taken = names(UnlabelledImages(tmp_path), tmp_path)
    assert (
        taken[:3] == ['a.jpg', 'b.JFIF', 'c.jpe']
        and 'f.pnm' in taken
        and not {'g.heic', 'LICENSE'} & {*taken}
    )
    assert len(said) == 1 and '2 x .heic, 1 x .mov, 1 x no extension' in said[0]
    touch(tmp_path / 'only', 'a.jpg')
    UnlabelledImages(tmp_path / 'only')
    assert len(said) == 1


@pytest.mark.parametrize('ending', ['AVIF', 'JPEG2000', 'DIB', 'JPEG'])
def test_such_files_are_read_whatever_they_are_called(tmp_path, ending):
    kind = {'JPEG2000': 'jpg_2000', 'AVIF': 'avif'}.get(ending)
    if kind and not features.check(kind):
        pytest.skip(f'this Pillow reads no {ending}')
    Image.new('RGB', (24, 16), (200, 10, 30)).save(tmp_path / 'a.jfif', format=ending)
    image = UnlabelledImages(tmp_path, pipeline=LOAD)[0]['img']
    assert image.shape == (16, 24, 3) and np.abs(image.mean((0, 1)) - (30, 10, 200)).max() < 4


@pytest.mark.parametrize(
    ('mark', 'encoding'),
    [
        (b'', 'utf-8'),
        (codecs.BOM_UTF8, 'utf-8'),
        (codecs.BOM_UTF16_LE, 'utf-16-le'),
        (codecs.BOM_UTF16_BE, 'utf-16-be'),
    ],
)
def test_a_list_may_begin_with_a_byte_order_mark(tmp_path, mark, encoding):
    touch(tmp_path, 'a.jpg', 'ü.jpg')
    (tmp_path / 'list.txt').write_bytes(mark + 'a.jpg\r\nü.jpg\r\n'.encode(encoding))
    assert names(UnlabelledImages(tmp_path, ann_file='list.txt'), tmp_path) == ['a.jpg', 'ü.jpg']


def test_names_need_not_be_utf_8(tmp_path):
    name = os.fsdecode(b'photo_\xff.jpg')
    write_photos(tmp_path, 1)
    (photo,) = tmp_path.iterdir()
    photo.rename(tmp_path / name)
    (tmp_path / 'list.txt').write_bytes(b'photo_\xff.jpg\n')
    for dataset in (UnlabelledImages(tmp_path, LOAD), UnlabelledImages(tmp_path, LOAD, ann_file='list.txt')):
        assert dataset[0]['img'].ndim == 3
    (tmp_path / name).write_bytes(b'')
    with pytest.raises(InputError) as error:
        UnlabelledImages(tmp_path, LOAD, max_refetch=0)[0]
    assert r'photo_\xff.jpg: the file is empty' in str(error.value).encode('utf-8').decode()


@pytest.mark.parametrize('data_root', [2024, ['a', 'b'], None])
def test_data_root_that_is_no_path_is_refused(data_root):
    with pytest.raises(InputError, match='data_root must be the path of one folder, got'):
        UnlabelledImages(data_root)


def test_a_link_to_itself_is_an_unreadable_image(tmp_path):
    write_photos(tmp_path, 1)
    (tmp_path / 'x.jpg').symlink_to(tmp_path / 'x.jpg')
    dataset = UnlabelledImages(tmp_path, LOAD, max_refetch=30)
    index = names(dataset, tmp_path).index('x.jpg')
    assert any('x.jpg: ' in note and 'symbolic links' in note for note in dataset[index]['unreadable'])


def test_every_image_nested_or_not_sorted(tmp_path):
    touch(
        tmp_path,
        'b.JPEG',
        'a/z.png',
        'a/b/c/d.jpg',
        'A.TiFf',
        'a.webp',
        'z 1/ü.gif',
        'readme.txt',
        'jpg',
        'x.jpg.part',
    )
    dataset = UnlabelledImages(tmp_path)
    assert names(dataset, tmp_path) == ['A.TiFf', 'a.webp', 'a/b/c/d.jpg', 'a/z.png', 'b.JPEG', 'z 1/ü.gif']


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    touch(tmp_path, 'a.jpg', '._a.jpg', '.thumbnails/b.jpg', 'c/.DS_Store', 'c/.hidden.png')
    assert names(UnlabelledImages(tmp_path), tmp_path) == ['a.jpg']


def test_the_folder_itself_may_be_hidden_and_a_path_object(tmp_path):
    touch(tmp_path, '.data/a.jpg')
    assert len(UnlabelledImages(tmp_path / '.data')) == 1
    assert len(UnlabelledImages(str(tmp_path / '.data') + '/')) == 1


def test_links_are_followed_and_loops_end(tmp_path):
    touch(tmp_path, 'elsewhere/deep/a.jpg', 'data/b/c.jpg')
    data = tmp_path / 'data'
    (data / 'link').symlink_to(tmp_path / 'elsewhere')
    (data / 'b' / 'loop').symlink_to(data)
    (tmp_path / 'elsewhere' / 'back').symlink_to(data)
    (data / 'file.jpg').symlink_to(data / 'b' / 'c.jpg')
    assert names(UnlabelledImages(data), data) == ['b/c.jpg', 'file.jpg', 'link/deep/a.jpg']


def test_a_folder_with_two_names_is_taken_once_under_the_first(tmp_path):
    touch(tmp_path, 'm/a.jpg')
    (tmp_path / 'b').symlink_to(tmp_path / 'm')
    (tmp_path / 'z').symlink_to(tmp_path / 'm')
    assert names(UnlabelledImages(tmp_path), tmp_path) == ['b/a.jpg']


def test_extensions_can_be_chosen(tmp_path):
    touch(tmp_path, 'a.jpg', 'b.PNG', 'c.xyz')
    assert names(UnlabelledImages(tmp_path, extensions=['.xyz', '.Png']), tmp_path) == ['b.PNG', 'c.xyz']


@pytest.mark.parametrize('extensions', ['.jpg', ['jpg']])
def test_wrong_extensions(tmp_path, extensions):
    with pytest.raises(ValueError, match='extensions must be a list of endings'):
        UnlabelledImages(tmp_path, extensions=extensions)


def test_misspelt_arguments_are_refused(tmp_path):
    touch(tmp_path, 'a.jpg')
    with pytest.raises(TypeError, match='piepline'):
        UnlabelledImages(tmp_path, piepline=LOAD)


@pytest.mark.parametrize('serialize', [True, False])
@pytest.mark.parametrize('lazy', [True, False])
def test_the_features_of_mmengine_datasets(tmp_path, serialize, lazy):
    paths = write_photos(tmp_path, 6)
    config = dict(type='a2mim_mm.UnlabelledImages', data_root=str(tmp_path), pipeline=LOAD, indices=4)
    dataset = DATASETS.build(dict(config, serialize_data=serialize, lazy_init=lazy))
    assert len(dataset) == 4
    assert [dataset[index]['img_path'] for index in range(4)] == [str(path) for path in paths[:4]]
    assert dataset[-1]['sample_idx'] == 3
    assert dataset[np.int64(2)]['sample_idx'] == 2
    subset = pickle.loads(pickle.dumps(dataset)).get_subset([3, 1])
    assert [subset[index]['img_path'] for index in range(2)] == [str(paths[3]), str(paths[1])]


def test_repeats_have_a_crop_of_their_own(tmp_path):
    write_photos(tmp_path, 3)
    crop = dict(type='mmpretrain.RandomCrop', crop_size=16)
    dataset = UnlabelledImages(tmp_path, [*LOAD, crop], repeats=4)
    assert names(dataset, tmp_path) == ['0000.jpg', '0001.jpg', '0002.jpg'] * 4
    crops = {dataset[index]['img'].tobytes() for index in (0, 3, 6, 9)}
    assert len(crops) == 4


@pytest.mark.parametrize('name, value', [('repeats', 0), ('max_refetch', -1)])
def test_numbers_out_of_range(tmp_path, name, value):
    with pytest.raises(ValueError, match=f'{name} must .* got {value}'):
        UnlabelledImages(tmp_path, **{name: value})


# A list of files.


def test_a_list_replaces_the_search(tmp_path):
    write_photos(tmp_path / 'x', 3)
    (tmp_path / 'list.txt').write_text('x/0002.jpg\n\nx/0000.jpg \r\n')
    dataset = UnlabelledImages(tmp_path, LOAD, ann_file='list.txt')
    assert names(dataset, tmp_path) == ['x/0002.jpg', 'x/0000.jpg']
    assert dataset[0]['img'].shape == (80, 100, 3)
    assert len(UnlabelledImages(tmp_path, ann_file=str(tmp_path / 'list.txt'))) == 2


def test_lists_that_are_none(tmp_path):
    touch(tmp_path, 'a.jpg')
    with pytest.raises(FileNotFoundError, match="ann_file '.*nowhere.txt' does not exist"):
        UnlabelledImages(tmp_path, ann_file='nowhere.txt')
    (tmp_path / 'labels.txt').write_text('a.jpg\na.jpg 7\n')
    with pytest.raises(ValueError, match=r"line 2 of '.*labels.txt' .*without a label.* got 'a.jpg 7'"):
        UnlabelledImages(tmp_path, ann_file='labels.txt')
    (tmp_path / 'empty.txt').write_text('\n')
    with pytest.raises(FileNotFoundError, match='lists no image'):
        UnlabelledImages(tmp_path, ann_file='empty.txt')


# Nothing there.


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"data_root '{tmp_path}/typo' does not exist"):
        UnlabelledImages(tmp_path / 'typo')


def test_missing_relative_folder_names_the_absolute_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"'data/imagenet' does not exist .*{tmp_path}/data/imagenet"):
        UnlabelledImages('data/imagenet')


def test_a_file_instead_of_a_folder(tmp_path):
    touch(tmp_path, 'a.jpg')
    with pytest.raises(NotADirectoryError, match='a.jpg.* is a file: give the folder'):
        UnlabelledImages(tmp_path / 'a.jpg')


def test_empty_folder(tmp_path):
    touch(tmp_path, 'sub/.hidden.jpg')
    with pytest.raises(
        FileNotFoundError, match=f"no image below data_root '{tmp_path}'; found there: no file at all"
    ):
        UnlabelledImages(tmp_path)


def test_folder_without_images_says_what_is_in_it(tmp_path):
    touch(tmp_path, 'train.tar', 'x/b.txt', 'x/c.TXT', 'LICENSE')
    with pytest.raises(FileNotFoundError) as error:
        UnlabelledImages(tmp_path)
    assert 'found there: 2 x .txt, 1 x ' in str(error.value)
    assert '1 x .tar' in str(error.value) and '1 x no extension' in str(error.value)
    assert 'images end in one of .jpg .jpeg ' in str(error.value)


# Unreadable images.


@pytest.fixture
def damaged(tmp_path):
    """A folder of 8 photos, of which 1, 3 and 5 are empty, truncated and gone."""
    paths = write_photos(tmp_path, 8)
    paths[1].write_bytes(b'')
    paths[3].write_bytes(paths[3].read_bytes()[:-500])
    paths[5].unlink()
    paths[5].symlink_to(tmp_path / 'gone')
    return tmp_path, paths


def test_unreadable_images_are_replaced_and_named(damaged):
    folder, paths = damaged
    dataset = UnlabelledImages(folder, LOAD)
    assert len(dataset) == 8
    for index, reason in (
        (1, 'the file is empty'),
        (3, 'Premature end'),
        (5, 'FileNotFoundError: No such file'),
    ):
        sample = dataset[SampleKey(0, 0, index)]
        assert sample['unreadable'][0].startswith(f'{paths[index]}: ') and reason in sample['unreadable'][0]
        assert sample['img_path'] != str(paths[index])
        assert sample['sample_idx'] not in (1, 3, 5)
        assert sample['img'].shape == (80, 100, 3)
    assert dataset[0]['unreadable'] == [] and dataset[0]['img_path'] == str(paths[0])


def test_replacements_follow_from_the_key(damaged):
    dataset = UnlabelledImages(damaged[0], LOAD)
    replaced = [dataset[SampleKey(0, epoch, 1)]['img_path'] for epoch in range(12)]
    assert replaced == [dataset[SampleKey(0, epoch, 1)]['img_path'] for epoch in range(12)]
    assert len(set(replaced)) > 1
    named = [len(dataset[SampleKey(0, epoch, 1)]['unreadable']) for epoch in range(12)]
    assert max(named) > 1  # a replacement that was unreadable in its turn


def test_when_nothing_is_readable_the_error_names_the_files(tmp_path):
    for path in write_photos(tmp_path, 3):
        path.write_bytes(b'lost')
    with pytest.raises(InputError) as error:
        UnlabelledImages(tmp_path, LOAD, max_refetch=2)[0]
    message = str(error.value)
    assert (
        message.startswith('3 images in a row cannot be read')
        and message.count('not a known image format') == 3
    )
    with pytest.raises(InputError, match='not to be replaced'):
        UnlabelledImages(tmp_path, LOAD, max_refetch=0)[0]


def test_errors_of_the_pipeline_are_not_taken_for_unreadable_images(tmp_path):
    write_photos(tmp_path, 3)

    def buggy(results):
        raise ValueError('a bug')

    with pytest.raises(ValueError, match='a bug') as error:
        UnlabelledImages(tmp_path, [*LOAD, buggy])[0]
    assert not isinstance(error.value, UnreadableImageError)


def test_a_png_called_jpeg_is_read(tmp_path):
    (tmp_path / 'n02105855_2933.JPEG').write_bytes(encode(picture(), 'PNG'))
    np.testing.assert_array_equal(UnlabelledImages(tmp_path, LOAD)[0]['img'][:, :, ::-1], picture())
