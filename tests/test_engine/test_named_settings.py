"""One word on the command line sets size, mask patch, length and batch wherever a pre-training has them."""

import pytest
from helpers.configs import load_config, names, path_of, steps_of

LOADERS = ('train_dataloader', 'test_dataloader')
PRETRAININGS = [name for name in names('selfsup/**/*') if '/zoo/' not in name or name.endswith('_224')]


@pytest.mark.parametrize('name', PRETRAININGS)
def test_every_pretraining_takes_them(name):
    path = str(path_of(name))
    before = load_config(path)
    crops = [steps_of(before[loader])['RandomResizedCrop'] for loader in LOADERS]
    cfg = load_config(path, ['image_size=96', 'mask_patch_size=8', 'epochs=7', 'batch_size=5'])
    for loader, crop in zip(LOADERS, crops, strict=True):
        assert steps_of(cfg[loader])['RandomResizedCrop'] == {**crop, 'scale': 96}
        assert cfg[loader].batch_size == 5
    assert (cfg.model.image_size, cfg.model.mask.patch_size, cfg.train_cfg.max_epochs) == (96, 8, 7)
    assert cfg.image_size == 96  # the variable, which checkpoints save
    assert 'img_size' not in before.model.backbone or cfg.model.backbone.img_size == 96


def test_height_comes_first_and_a_dotted_name_has_the_last_word():
    path = str(path_of('selfsup/a2mim_vit-s'))
    cfg = load_config(path, ['test_dataloader.batch_size=2', 'image_size=96,128', 'batch_size=5'])
    assert steps_of(cfg.train_dataloader)['RandomResizedCrop'].scale == (128, 96)
    assert tuple(cfg.model.backbone.img_size) == (96, 128)
    assert (cfg.train_dataloader.batch_size, cfg.test_dataloader.batch_size) == (5, 2)


@pytest.mark.parametrize(
    'name, option, words',
    [
        ('selfsup/a2mim_r50', 'image_size=a', r"positive whole number, or height and width.*got 'a'"),
        ('selfsup/a2mim_r50', 'image_size=1,2,3', 'image_size must be'),
        ('selfsup/a2mim_r50', 'epochs=0', 'epochs must be a positive whole number, got 0'),
        ('selfsup/a2mim_r50', 'batch_size=2.5', 'batch_size must be .* got 2.5'),
        ('selfsup/a2mim_r50', 'image_sizes=3', "the config has no 'image_sizes'"),
        ('mmseg/custom_masks', 'epochs=3', 'custom_masks.py trains another model'),
    ],
)
def test_what_is_refused(name, option, words):
    with pytest.raises(ValueError, match=words):
        load_config(str(path_of(name)), [option])
