"""Tools run in this process as their __main__ does, and trainings that several tests start from.

Imports that take seconds are inside: pytest-xdist reads this file before it starts its workers.
"""

import shutil

import pytest


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a tool in the test's folder; returns its exit status and what it printed to stderr."""
    from a2mim_mm.engine.run_tool import run_tool

    monkeypatch.chdir(tmp_path)

    def run_main(module, *args):
        capsys.readouterr()
        try:
            run_tool(lambda: module.main([*map(str, args)]))
            return 0, capsys.readouterr().err
        except SystemExit as end:
            return end.code, capsys.readouterr().err

    return run_main


@pytest.fixture(scope='session')
def toy_run(tmp_path_factory):
    """The work dir of two epochs of the toy."""
    from helpers.toy_training import tool, write_config

    folder = tmp_path_factory.mktemp('toy')
    tool('train').main([write_config(folder, name='toy_run'), '--work-dir', str(folder / 'w')])
    return folder / 'w'


@pytest.fixture
def finished(toy_run, tmp_path):
    """A copy of it, w in the test's folder."""
    return shutil.copytree(toy_run, tmp_path / 'w')


@pytest.fixture(scope='session')
def pretrained(tmp_path_factory):
    """The checkpoints of real pre-trainings, by the kind of their backbone."""
    from helpers.toy_training import tool
    from helpers.toy_transfer import BACKBONES, draw_photos, pretraining, write_settings

    folder = tmp_path_factory.mktemp('pretraining')
    photos = draw_photos(tmp_path_factory.mktemp('photos'))
    for kind in BACKBONES:
        settings = pretraining(kind, photos)
        settings['optim_wrapper']['optimizer']['lr'] = 0.01
        config = write_settings(folder, f'pretraining_{kind}', settings)
        tool('train').main([str(config), '--work-dir', str(folder / kind)])
    return {kind: folder / kind / 'epoch_1.pth' for kind in BACKBONES}
