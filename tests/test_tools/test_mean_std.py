"""tools/mean_std.py: the numbers of numpy on all pixels at once, also after an interruption."""

import json

import numpy as np
import pytest
from helpers.band_files import HIGH, bands
from helpers.pictures import encode, photo
from helpers.toy_training import tool

from a2mim_mm.data import LoadChannels
from a2mim_mm.data.mean_std import measure


@pytest.fixture
def folder(tmp_path):
    """Seven images of 4 channels and different sizes, one file damaged."""
    (tmp_path / 'files').mkdir()
    for number in range(7):
        np.save(tmp_path / 'files' / f'{number}.npy', bands(4, (20 + number, 30), seed=number))
    (tmp_path / 'files' / 'z.npy').write_bytes(b'damaged')
    return tmp_path / 'files'


def all_pixels(folder):
    images = [np.load(path).reshape(-1, 4).astype(np.float64) for path in sorted(folder.glob('[0-9].npy'))]
    return np.concatenate(images)


def run(folder, *options, channels=4):
    out = folder.parent / 'out.json'
    return tool('mean_std').main([str(folder), '--channels', str(channels), '--out', str(out), *options])


def test_numbers_are_those_of_numpy(folder, capsys):
    found, expected = run(folder), all_pixels(folder)
    assert found.pixels == len(expected)
    np.testing.assert_allclose(found.mean, expected.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.std, expected.std(axis=0), rtol=1e-12)
    printed = capsys.readouterr().out
    assert f'mean = [{", ".join(f"{value:.6g}" for value in expected.mean(axis=0))}]' in printed
    assert 'z.npy: not a known image format' in printed and '7 images' in printed
    content = json.loads((folder.parent / 'out.json').read_text())
    assert content['std'] == found.std.tolist()


def test_a_range_scales_them(folder):
    found, expected = run(folder, '--value-range', '0', str(HIGH)), all_pixels(folder) * 255 / HIGH
    np.testing.assert_allclose(found.mean, expected.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.std, expected.std(axis=0), rtol=1e-5)


def test_photos_are_rgb(tmp_path):
    (tmp_path / 'files').mkdir()
    images = [photo(20, 24, seed=seed) for seed in range(3)]
    for number, image in enumerate(images):
        (tmp_path / 'files' / f'{number}.png').write_bytes(encode(image, 'PNG'))
    found = tool('mean_std').main([str(tmp_path / 'files'), '--out', str(tmp_path / 'out.json')])
    np.testing.assert_allclose(found.mean, np.stack(images).mean(axis=(0, 1, 2)), rtol=1e-12)


def test_it_goes_on_where_it_was_stopped(folder):
    paths, loader, read = sorted(folder.iterdir()), LoadChannels(4), []

    def load(path, last=None):
        if path.stem == last:
            raise KeyboardInterrupt
        read.append(path.stem)
        return loader(dict(img_path=str(path)))['img']

    out, settings = folder.parent / 'out.json', dict(channels=4)
    with pytest.raises(KeyboardInterrupt):
        measure(paths, lambda path: load(path, last='5'), settings, out, every=2)
    assert read == list('01234')
    found = measure(paths, load, settings, out, every=2)
    assert read == list('01234') + list('456z')  # the last save was after four
    np.testing.assert_allclose(found.std, all_pixels(folder).std(axis=0), rtol=1e-12)
    again = measure(paths, load, settings, out, every=2)
    assert len(read) == 9 and again.std.tolist() == found.std.tolist() and len(again.unreadable) == 1


def test_a_result_of_something_else_is_refused(folder):
    run(folder)
    with pytest.raises(ValueError, match=r'out.json was measured with another value_range, None instead of'):
        run(folder, '--value-range', '0', '1')
    np.save(folder / '9.npy', bands(4))
    with pytest.raises(ValueError, match='another images, 8 instead of 9: remove it'):
        run(folder)
    (folder.parent / 'out.json').write_text('{}')
    with pytest.raises(ValueError, match='is not a result of tools/mean_std.py'):
        run(folder)


def test_images_of_other_channels_only(folder):
    with pytest.raises(ValueError, match=r'none of the 8 images can be read, such as .*0.npy: .*5 channels'):
        run(folder, channels=5)


def test_a_channel_that_is_the_same_everywhere(tmp_path, capsys):
    (tmp_path / 'files').mkdir()
    np.save(tmp_path / 'files' / 'a.npy', np.dstack([bands(1), np.full((40, 56), 7)]))
    run(tmp_path / 'files', channels=2)
    assert 'the same value everywhere: [1]' in capsys.readouterr().out


@pytest.mark.parametrize('options', [['--every', '0'], ['--value-range', '0', '1']])
def test_wrong_arguments(options):
    with pytest.raises(SystemExit):
        tool('mean_std').parse_args(['folder', '--out', 'out.json', *options])
