"""Masks whose values are not the classes' are refused with file, value and remedy."""

import numpy as np
import pytest
from PIL import Image

from a2mim_mm.data.mask_sample import SAMPLE, check_masks


def load(info):
    return dict(gt_seg_map=np.asarray(Image.open(info['seg_map_path'])).astype(np.uint8))


def infos(tmp_path, *masks, mode=None):
    for number, values in enumerate(masks):
        array = np.asarray(values)
        image = Image.fromarray(array if array.dtype == np.uint16 else array.astype(np.uint8))
        image = image.convert(mode) if mode else image
        image.save(tmp_path / f'{number}.png')
    return [dict(seg_map_path=str(tmp_path / f'{number}.png')) for number in range(len(masks))]


def refusal(listed, classes, ignore=frozenset({255})):
    with pytest.raises(ValueError) as error:
        check_masks(listed, load, classes, set(ignore))
    assert '\n' not in str(error.value)
    return str(error.value)


def test_good_masks_pass(tmp_path):
    assert (
        check_masks(infos(tmp_path, [[0, 0], [0, 1]], [[1, 255]]), load, ('background', 'cat'), {255}) == []
    )


@pytest.mark.parametrize('mode', ['P', '1'])
def test_palettes_and_single_bits_pass(mode, tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8) * (255 if mode == '1' else 1))
    if mode == 'P':
        image.putpalette([0, 0, 0, 255, 0, 0])
    image.convert(mode).save(tmp_path / '0.png')
    assert Image.open(tmp_path / '0.png').mode == mode
    listed = [dict(seg_map_path=str(tmp_path / '0.png'))]
    assert check_masks(listed, load, 2, {255}) == []


@pytest.mark.parametrize(
    ('values', 'count', 'told'),
    [
        ([[1, 2], [3, 3]], 3, 'reduce_zero_label=True'),
        ([[0, 128], [0, 0]], 2, '(the masks have 0, 1, 128)'),
        ([[0, 1], [2, 3]], 3, 'write it as 255'),
        ([[0, 1], [40, 41]], 2, '(the masks have 0, 1, 40, 41): number the classes from 0'),
        ([[0, 2], [11, 255]], 11, 'value 11, but 11 classes have the values 0 to 10: write it as 255'),
    ],
)
def test_values_without_a_class(values, count, told, tmp_path):
    listed = infos(tmp_path, [[0, 0], [0, 1]] if 'reduce' not in told else [[1, 2], [1, 2]], values)
    message = refusal(listed, [str(number) for number in range(count)])
    assert message.startswith(listed[1]['seg_map_path']) and told in message


def test_another_value_may_be_ignored(tmp_path):
    listed = infos(tmp_path, [[0, 1], [1, 2]])
    assert check_masks(listed, load, 2, {2}) == []
    assert 'value 2' in refusal(listed, 2)


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'LA'])
def test_colours_are_no_classes(mode, tmp_path):
    listed = infos(tmp_path, [[0, 1], [0, 0]], mode=mode)
    assert f'0.png has {len(mode)} channels' in refusal(listed, 2)


def test_values_beyond_8_bits(tmp_path):
    listed = infos(tmp_path, np.array([[0, 256]], np.uint16))
    assert 'values up to 256' in refusal(listed, 2)


def test_a_damaged_mask(tmp_path):
    listed = infos(tmp_path, [[0, 1]])
    (tmp_path / '0.png').write_bytes(b'no image')
    assert 'cannot be loaded as a mask' in refusal(listed, 2)


def test_objects_drawn_as_the_ignored_value(tmp_path):
    listed = infos(tmp_path, [[0, 255], [0, 0]], [[0, 0], [255, 255]])
    (warning,) = check_masks(listed, load, ('background', 'cat'), {255})
    assert "no pixel is of class 'cat' (1)" in warning and 'never learns what is drawn as 255' in warning
    listed[0]['reduce_zero_label'] = True  # there 255 is what was 0
    assert check_masks(listed, load, ('background', 'cat'), {255}) == []


def test_the_sample_is_spread_over_the_list(tmp_path):
    (info,) = infos(tmp_path, [[0, 1]])
    looked_at = []

    def load_and_note(info):
        looked_at.append(info['index'])
        return load(info)

    listed = [dict(info, index=index) for index in range(1000)]
    for _ in range(2):
        check_masks(listed, load_and_note, 2, {255})
    first, second = looked_at[:SAMPLE], looked_at[SAMPLE:]
    assert first == second and (first[0], first[-1]) == (0, 999) and max(np.diff(first)) < 20
