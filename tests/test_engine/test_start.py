"""Where a training starts: what --resume, --pretrained and the config say together."""

import pytest
from mmengine.config import Config

from a2mim_mm.engine.start import set_start

PATH, OTHER = 'pretrained.pth', 'resumed.pth'


@pytest.fixture
def start(tmp_path, monkeypatch):
    """What set_start says of a config in a work directory without a checkpoint, or with one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'w').mkdir()
    (tmp_path / OTHER).touch()
    note = tmp_path / 'w' / 'last_checkpoint'

    def told(settings, resume=None, pretrained=None, done=False):
        note.write_text(OTHER) if done else note.unlink(missing_ok=True)
        cfg = Config(dict(settings, work_dir='w'), cfg_text='text', filename='recipe.py')
        text = set_start(cfg, resume, pretrained)
        assert cfg.resume == text.startswith('resuming from')
        return text

    return told


@pytest.fixture(params=[None, 'auto'])
def resume(request):
    return request.param


@pytest.fixture
def prefix(resume):
    return 'nothing to resume from in w, ' if resume else ''


def test_a_config_may_start_from_weights(start, resume, prefix):
    weights = f'{prefix}starting from the weights in {PATH}'
    for settings in (dict(), dict(start=None), dict(start='pretrained')):
        assert start(settings, resume, PATH) == weights
        assert start(dict(settings, load_from=PATH), resume) == weights
    for settings in (dict(), dict(start=None), dict(start='scratch'), dict(start='scratch', load_from=None)):
        assert start(settings, resume) == f'{prefix}starting from scratch'


def test_another_start_than_the_configs_is_refused(start, resume, prefix):
    def refusal(settings, pretrained=None):
        with pytest.raises(ValueError) as error:
            start(settings, resume, pretrained)
        return str(error.value)

    for settings in (dict(start='pretrained'), dict(start='pretrained', load_from=None)):
        assert refusal(settings) == (
            f'{prefix}config recipe.py starts from a pre-trained backbone: give --pretrained CHECKPOINT. '
            '--cfg-options start=scratch trains with the same recipe from random weights'
        )
    for settings, pretrained in (
        (dict(start='scratch'), PATH),
        (dict(start='scratch', load_from=PATH), None),
    ):
        message = f"config recipe.py has start='scratch': leave out {PATH}, or set start=pretrained"
        assert refusal(settings, pretrained) == prefix + message
    message = f'{prefix}--pretrained and load_from={OTHER} exclude each other'
    assert refusal(dict(load_from=OTHER), PATH) == message
    for value in ('pretrian', 'Scratch', '', True, ['scratch']):
        message = f"start must be 'pretrained' or 'scratch', got {value!r}"
        assert refusal(dict(start=value)) == refusal(dict(start=value), PATH) == message


@pytest.mark.parametrize('kind', ['pretrained', 'scratch'])
def test_resuming_wins_over_the_start(start, kind):
    settings = dict(start=kind)
    assert start(settings, 'auto', done=True) == f'resuming from {OTHER}'
    assert start(settings, OTHER) == f'resuming from {OTHER}'
    assert start(dict(settings, resume=True), done=True) == f'resuming from {OTHER}'
    assert start(dict(settings, resume=True, load_from=OTHER)) == f'resuming from {OTHER}'
    # A script may give both, every time.
    assert start(settings, 'auto', PATH, done=True) == f'resuming from {OTHER}, not starting from {PATH}'
