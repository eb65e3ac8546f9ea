"""tools/analysis/: what they write is what the networks give, however often and with whatever stops."""

import csv
import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from helpers.analysed import CLASSES, draw_classes, write_classifier
from helpers.toy_training import tool

from a2mim_mm import analysis
from a2mim_mm.analysis.fourier import block_names
from a2mim_mm.analysis.measuring import AFTER_INTERRUPT
from a2mim_mm.analysis.networks import Source, load_classifier, load_encoder
from a2mim_mm.analysis.photos import choose_photos
from a2mim_mm.engine.run_tool import run_tool

NAMES = ('occlusion', 'interaction', 'fourier')
occlusion, interaction, fourier = (tool(f'analysis/{name}') for name in NAMES)
OPTIONS = {
    occlusion: ['--ratios', '0', '0.3', '1', '--repeats', '2'],
    interaction: ['--grid', '4', '--pairs', '3', '--contexts', '3', '--count', '4'],
    fourier: ['--count', '6'],
}
PARTS = {module: getattr(analysis, name) for module, name in zip(OPTIONS, NAMES, strict=True)}
KINDS = ('resnet', 'vit')


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    return draw_classes(tmp_path_factory.mktemp('analysed') / 'photos')


@pytest.fixture(scope='module')
def networks(photos):
    """Config and checkpoint of a ResNet and a ViT."""
    return {kind: write_classifier(photos.parent, kind, photos) for kind in KINDS}


def run(module, out, photos, *pairs, options=()):
    """Run a tool; its result.json."""
    words = [word for pair in pairs for word in pair]
    module.main([*words, '--images', str(photos), '--out', str(out), *OPTIONS[module], *options])
    return json.loads((out / 'result.json').read_text())


def rows(out):
    with (out / 'result.csv').open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize('kind', KINDS)
def test_without_occlusion_accuracy_is_that_of_a_test(kind, networks, photos, tmp_path):
    config, checkpoint = networks[kind]
    result = run(occlusion, tmp_path / 'out', photos, networks[kind])
    metrics = tool('test').main([config, checkpoint, '--work-dir', str(tmp_path / 'test')])
    (model,) = result['models']
    assert model['mean'][0] == pytest.approx(metrics['accuracy/top1'], abs=1e-4)
    assert model['dropped'] == [0, 5, 16] and model['images'] == sum(CLASSES.values())
    assert np.shape(model['top1']) == (2, 3)
    np.testing.assert_allclose(model['mean'], np.mean(model['top1'], axis=0))
    np.testing.assert_allclose(model['std'], np.std(model['top1'], axis=0, ddof=1))
    assert model['std'][0] == 0
    # All black: every image looks the same, so that one class is always right.
    assert model['mean'][-1] in [pytest.approx(100 * count / 18) for count in CLASSES.values()]


@pytest.mark.parametrize('order', ['salient', 'non-salient'])
def test_what_counts_is_missed_first(order, networks, photos, tmp_path):
    options = ['--order', order, '--ratios', '0', '0.25', '--fill', 'mean']
    model = run(occlusion, tmp_path, photos, networks['resnet'], options=options)['models'][0]
    assert len(model['top1']) == 1 and model['std'] is None
    before, after = model['mean']
    assert after < before if order == 'salient' else after >= before


@pytest.mark.filterwarnings('ignore:the mask grid has only')
def test_curves_stand_at_the_shares_that_were_hidden(networks, photos, tmp_path):
    """Of 4 patches 0.1 hides none, and 0.6 half."""
    options = ['--patch-size', '32', '--ratios', '0.1', '0.3', '0.6', '1']
    model = run(occlusion, tmp_path, photos, networks['resnet'], options=options)['models'][0]
    patches = model['grid'][0] * model['grid'][1]
    assert model['dropped'] == [round(ratio * patches) for ratio in (0.1, 0.3, 0.6, 1)]
    assert model['ratios'] == [count / patches for count in model['dropped']] != [0.1, 0.3, 0.6, 1]


def test_interactions_cost_what_was_announced(networks, photos, tmp_path, capsys, monkeypatch):
    counted = []
    hide = analysis.interaction.hide_patches

    def count_and_hide(img_b3hw, hidden_bn, grid, colour):
        counted.append(len(hidden_bn))
        return hide(img_b3hw, hidden_bn, grid, colour)

    monkeypatch.setattr(analysis.interaction, 'hide_patches', count_and_hide)
    model = run(interaction, tmp_path, photos, networks['resnet'])['models'][0]
    assert 'noise is at most ' in (printed := capsys.readouterr().out)
    announced = '4 images x 3 pairs x 11 orders x 1..3 contexts x 4 terms = 1,392 forward passes a model'
    assert printed.startswith(announced)
    assert sum(counted) == 1392
    assert np.mean(model['J']) == pytest.approx(1)
    assert np.shape(model['strength_of_images']) == (4, 11)
    strength = np.mean(model['strength_of_images'], axis=0)
    np.testing.assert_allclose(model['J'], strength / strength.mean())
    low, mean, high = (np.array(model[key]) for key in ('J_low', 'J', 'J_high'))
    assert ((low <= mean) & (mean <= high)).all() and (low < high).any()


def test_interactions_of_a_pair_are_those_of_pictures_masked_by_hand(networks, photos, tmp_path, monkeypatch):
    asked = {}
    original = analysis.interaction.image_interactions

    def record(score, plan, seed, image, batch_size):
        kept = torch.rand(5, 16, generator=torch.Generator().manual_seed(image)) > 0.5
        asked[image] = kept, score(kept)
        return original(score, plan, seed, image, batch_size)

    monkeypatch.setattr(analysis.interaction, 'image_interactions', record)
    run(interaction, tmp_path, photos, networks['vit'], options=['--count', '18'])
    source = Source('vit', *networks['vit'])
    subject = load_classifier(source, 0, 3)
    chosen = choose_photos(str(photos), 18, 0, labelled=True)
    for image, img_13hw in enumerate(chosen.batches(subject, 1)):
        kept, score = asked[image]
        for patches, value in zip(kept, score, strict=True):
            masked = img_13hw.clone()
            for patch in np.flatnonzero(~patches.numpy()):
                row, column = divmod(patch, 4)
                masked[..., 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 0
            with torch.no_grad():
                p = subject.network(masked).double().softmax(1)[0, chosen.labels[image]]
            assert value.item() == pytest.approx(torch.log(p / (1 - p)).item(), abs=1e-4)


@pytest.mark.parametrize('kind, site, extra', [('resnet', 'layer2.1', 0), ('vit', 'layers.1', 1)])
def test_statistics_are_those_of_the_features(kind, site, extra, networks, photos, tmp_path):
    model = run(fourier, tmp_path, photos, networks[kind], options=['--count', '18'])['models'][0]
    subject = load_encoder(Source(kind, *networks[kind]), 0)
    chosen = choose_photos(str(photos), None, 0, labelled=False)
    hooked = []
    handle = subject.network.get_submodule(site).register_forward_hook(lambda *args: hooked.append(args[2]))
    with torch.no_grad():
        for batch in chosen.batches(subject, 18):
            subject.network(batch)
    handle.remove()
    feature = hooked[0].double().numpy()
    if extra:
        feature = feature[:, extra:].transpose(0, 2, 1).reshape(18, 24, 4, 4)
    size = feature.shape[-1]
    checkers = (-1.0) ** np.add.outer(np.arange(size), np.arange(size))  # the wave of pi in both directions
    high = np.log(abs((feature * checkers).sum((2, 3))) + 1e-6).mean(1)
    low = np.log(abs(feature.sum((2, 3))) + 1e-6).mean(1)
    index = model['sites'].index(site)
    assert model['log_amplitude'][index] == pytest.approx((high - low).mean(), rel=1e-4)
    assert model['log_amplitude_error'][index] == pytest.approx((high - low).std(ddof=1) / 18**0.5, rel=1e-4)
    variance = feature.var((2, 3), ddof=1).mean(1)
    assert model['variance'][index] == pytest.approx(variance.mean(), rel=1e-4)
    assert model['depth'][0] == 0 and model['depth'][-1] == 1
    assert model['spectrum'][index]['log_amplitude'][-1] == model['log_amplitude'][index]


def test_named_sites_are_analysed_in_their_order(networks, photos, tmp_path):
    options = ['--sites', 'layer4', 'layer1']
    model = run(fourier, tmp_path, photos, networks['resnet'], options=options)['models'][0]
    assert model['sites'] == ['layer4', 'layer1']
    assert model['shapes'] == [[64, 2, 2], [8, 16, 16]]


def test_a_network_without_blocks_says_what_to_do():
    with pytest.raises(ValueError, match='it has no blocks.*--sites names the modules to measure'):
        block_names(torch.nn.Flatten(), (32, 32))


def numbers(model):
    """A result without where its network came from."""
    return {key: value for key, value in model.items() if key not in ('name', 'config', 'checkpoint')}


@pytest.mark.parametrize('module', OPTIONS, ids=NAMES)
def test_a_stop_changes_nothing_and_costs_one_network(module, networks, photos, tmp_path, monkeypatch):
    first, second = networks.values()
    whole = run(module, tmp_path / 'whole', photos, *networks.values())
    assert run(module, tmp_path / 'again', photos, *networks.values())['models'] == whole['models']
    assert rows(tmp_path / 'again') == rows(tmp_path / 'whole')

    measured, measure = [], PARTS[module].measure

    def stopped(source, **kwargs):
        if source.checkpoint == second[1]:
            raise KeyboardInterrupt
        return measure(source, **kwargs)

    monkeypatch.setattr(PARTS[module], 'measure', stopped)
    with pytest.raises(KeyboardInterrupt):
        run(module, tmp_path / 'resumed', photos, first, second)
    assert not (tmp_path / 'resumed' / 'result.json').exists()

    def record(source, **kwargs):
        measured.append(source.checkpoint)
        return measure(source, **kwargs)

    monkeypatch.setattr(PARTS[module], 'measure', record)
    resumed = run(module, tmp_path / 'resumed', photos, first, second)
    assert measured == [second[1]]
    assert [*map(numbers, resumed['models'])] == [*map(numbers, whole['models'])]


@pytest.mark.parametrize('module', OPTIONS, ids=NAMES)
def test_numbers_do_not_depend_on_batches_and_company(module, networks, photos, tmp_path):
    both = run(module, tmp_path / 'both', photos, *networks.values())['models']
    options = ['--batch-size', '5']
    alone = run(module, tmp_path / 'alone', photos, networks['vit'], options=options)['models']
    compared = 0
    for key, value in numbers(alone[0]).items():
        if isinstance(value, list) and isinstance(value[0], (float, int, list)):
            np.testing.assert_allclose(value, both[1][key], rtol=1e-3, atol=1e-5, err_msg=key)
            compared += 1
    assert compared >= 5


@pytest.mark.parametrize('changed', ['seed', 'weights', 'images', 'setting'])
def test_results_of_other_settings_are_not_taken_for_these(changed, networks, photos, tmp_path):
    config, checkpoint = networks['resnet']
    photos = shutil.copytree(photos, tmp_path / 'photos')
    copied = str(shutil.copy(checkpoint, tmp_path / 'copy.pth'))
    before = run(occlusion, tmp_path / 'out', photos, (config, copied))
    options = dict(seed=['--seed', '1'], setting=['--fill', 'zero']).get(changed, [])
    if changed == 'weights':
        shutil.copy(write_classifier(tmp_path, 'resnet', photos, seed=1)[1], copied)
    if changed == 'images':
        cv2.imwrite(str(photos / 'ant' / '0.png'), np.zeros((90, 120, 3), np.uint8))
    after = run(occlusion, tmp_path / 'out', photos, (config, copied), options=options)
    assert len(list((tmp_path / 'out' / 'models').iterdir())) == 2
    assert after['models'][0]['top1'] != before['models'][0]['top1']


def test_the_record_says_how_it_came_about(networks, photos, tmp_path):
    config, checkpoint = networks['resnet']
    result = run(occlusion, tmp_path, photos, networks['resnet'], options=['--names', 'a net'])
    assert result['command'].startswith('python tools/analysis/occlusion.py ')
    assert f'{config} {checkpoint} --images {photos} --out {tmp_path}' in result['command']
    assert "--names 'a net'" in result['command']
    assert result['versions']['torch'] == torch.__version__.partition('+')[0]
    assert result['settings']['fill'] == 'black' and result['settings']['classes'] == list(CLASSES)
    (model,) = result['models']
    assert (model['name'], model['config'], model['checkpoint']) == ('a net', config, checkpoint)
    table = rows(tmp_path)
    assert [float(row['top1_mean']) for row in table] == model['mean']
    assert [row['name'] for row in table] == 3 * ['a net']


@pytest.mark.parametrize('module', OPTIONS, ids=NAMES)
def test_a_picture_has_the_curves(module, networks, photos, tmp_path):
    run(module, tmp_path, photos, *networks.values())
    (path,) = tmp_path.glob('*.png')
    picture = cv2.imread(str(path))
    assert picture.shape[0] > 300 and picture.shape[1] > 400
    for colour_bgr in ([180, 119, 31], [14, 127, 255]):  # matplotlib's first two
        assert (abs(picture.astype(int) - colour_bgr).max(-1) < 12).sum() > 100
    assert not list(tmp_path.glob('.*'))


WRONG = [
    (occlusion, ['odd'], [], 'pairs of a config and a checkpoint, got 3 words'),
    (occlusion, [], ['--names', 'one', 'two'], '2 names for 1 networks'),
    (occlusion, [], ['--count', '0'], '--count must be at least 1'),
    (occlusion, [], ['--batch-size', '0'], '--batch-size must be at least 1'),
    (occlusion, [], ['--seed', '-1'], 'must not be negative'),
    (occlusion, [], ['--ratios', '1.5'], 'must lie in 0..1'),
    (occlusion, [], ['--repeats', '0'], '--repeats must be at least 1'),
    (occlusion, [], ['--patch-size', '7'], 'patch_size=7 does not divide the input of 64 x 64'),
    (occlusion, [], ['--images', 'nowhere'], 'there is no folder nowhere'),
    (interaction, [], ['--count', '9', '--budget', '10'], 'a budget of 10 forward passes is too small'),
    (interaction, [], ['--count', '9', '--grid', '1'], 'at least 3 patches'),
    (interaction, [], ['--count', '9', '--radius', '-1'], 'radius must be at least 1'),
    (interaction, [], ['--count', '9', '--orders', '2'], 'shares in 0..1'),
    (interaction, [], ['--count', '9', '--grid', '-3'], 'at least 3 patches'),
    (
        interaction,
        [],
        ['--count', '9', '--grid', '65', '--radius', '1'],
        'finer than images of (64, 64) pixels',
    ),
    (fourier, [], ['--count', '9', '--sites', 'layer1', 'layer1'], '--sites must differ'),
    (fourier, [], ['--count', '9', '--sites', 'layer9'], 'no site layer9; it is made of conv1'),
    (fourier, [], ['--count', '9', '--sites', 'bn1', 'bn1.0'], 'no site bn1.0'),
]


@pytest.mark.parametrize('module, words, options, said', WRONG, ids=[case[-1] for case in WRONG])
def test_what_the_user_can_mend_is_one_message(
    module, words, options, said, networks, photos, tmp_path, capsys
):
    argv = [*networks['resnet'], *words, '--images', str(photos), '--out', str(tmp_path / 'out'), *options]
    with pytest.raises(SystemExit) as end:
        run_tool(lambda: module.main(argv))
    message = capsys.readouterr().err
    assert end.value.code in (1, 2) and said in message and 'Traceback' not in message
    assert not (tmp_path / 'out' / 'result.json').exists()


def test_a_network_without_a_classifier_or_with_another(networks, photos, root, tmp_path, capsys):
    demo = (str(root / 'configs' / 'selfsup' / 'demo_resnet.py'), 'random')
    other = shutil.copytree(photos, tmp_path / 'other')
    (other / 'bee').rename(other / 'wasp')
    renamed = shutil.copytree(photos, tmp_path / 'renamed')
    for number, name in enumerate(CLASSES):
        (renamed / name).rename(renamed / f'n{number}')
    fewer = shutil.copytree(photos, tmp_path / 'fewer', ignore=shutil.ignore_patterns('bee'))
    unnamed = str(tmp_path / 'weights.pth')
    torch.save(torch.load(networks['vit'][1], weights_only=True)['state_dict'], unnamed)
    for pair, folder, said in (
        (demo, photos, 'builds A2MIM, which is not a classifier: fine-tune it'),
        (networks['vit'], other, 'only one of them has bee, wasp'),
        ((networks['vit'][0], unnamed), fewer, 'has 2 classes (folders that hold an image), but the network'),
    ):
        with pytest.raises(SystemExit):
            run_tool(lambda pair=pair, folder=folder: run(occlusion, tmp_path / 'out', folder, pair))
        assert said in capsys.readouterr().err
    run(occlusion, tmp_path / 'out', renamed, networks['vit'], options=['--count', '99'])
    assert 'calls its classes ant, bee, cow, --images calls them n0, n1, n2' in capsys.readouterr().out


def test_what_cannot_be_read_or_written_is_said_before_anything_is_measured(
    networks, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(analysis.occlusion, 'measure', lambda *args, **kwargs: pytest.fail('measured'))
    (tmp_path / 'file').touch()
    good = networks['resnet']
    for pairs, out, said in (
        ([good, (good[0], 'nowhere.pth')], 'out', 'there is no checkpoint at nowhere.pth'),
        ([good, ('nowhere.py', networks['vit'][1])], 'out', 'there is no config file nowhere.py'),
        ([good], 'file', 'file'),
    ):
        with pytest.raises(SystemExit) as end:
            run_tool(lambda pairs=pairs, out=out: run(occlusion, tmp_path / out, photos, *pairs))
        message = capsys.readouterr().err
        assert end.value.code == 1 and said in message and 'Traceback' not in message


def test_networks_are_runs_of_one_kind_only_if_they_are_called_so(networks, photos, tmp_path, capsys):
    config, checkpoint = networks['resnet']
    copies = []
    for name in ('one', 'two'):
        (tmp_path / name / 'run').mkdir(parents=True)
        copies.append((config, str(shutil.copy(checkpoint, tmp_path / name / 'run' / 'epoch_1.pth'))))
    few = ['--count', '4']
    result = run(occlusion, tmp_path / 'out', photos, *copies, options=few)
    assert [model['name'] for model in result['models']] == ['one/run/epoch_1', 'two/run/epoch_1']
    with pytest.raises(SystemExit):
        run(occlusion, tmp_path / 'out', photos, copies[0], copies[0])
    assert 'named twice' in capsys.readouterr().err
    names = [*few, '--names', '[/red] $\\x$', '[/red] $\\x$', '_hidden']
    result = run(occlusion, tmp_path / 'out', photos, *copies, networks['vit'], options=names)
    assert [model['name'] for model in result['models']] == names[3:]


@pytest.mark.parametrize('module', OPTIONS, ids=NAMES)
def test_a_network_that_gives_no_numbers_is_refused(module, networks, photos, tmp_path, capsys):
    config, checkpoint = networks['resnet']
    content = torch.load(checkpoint, weights_only=True)
    content['state_dict']['backbone.layer3.0.conv1.weight'][:] = float('nan')
    torch.save(content, tmp_path / 'nan.pth')
    with pytest.raises(SystemExit):
        run_tool(lambda: run(module, tmp_path / 'out', photos, (config, str(tmp_path / 'nan.pth'))))
    assert 'not finite' in capsys.readouterr().err
    assert not list((tmp_path / 'out' / 'models').iterdir())


def test_a_checkpoint_is_no_config(networks, photos, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(occlusion, tmp_path / 'out', photos, networks['vit'][::-1])
    assert 'vit_0.pth is a checkpoint: a pair is the config first' in capsys.readouterr().err


def test_random_networks_of_timm_have_the_classes_of_the_folders(photos, tmp_path):
    pytest.importorskip('timm')
    result = run(occlusion, tmp_path, photos, ('timm:resnet10t', 'random'), options=['--count', '2'])
    assert result['models'][0]['name'] == 'resnet10t/random'


@pytest.mark.parametrize('module', OPTIONS, ids=NAMES)
def test_an_unreadable_image_is_named(module, networks, photos, tmp_path, capsys):
    damaged = shutil.copytree(photos, tmp_path / 'photos')
    (damaged / 'bee' / '1.png').write_bytes(b'no picture')
    options = ['--count', '18']
    with pytest.raises(SystemExit):
        run_tool(lambda: run(module, tmp_path / 'out', damaged, networks['vit'], options=options))
    assert str(damaged / 'bee' / '1.png') in capsys.readouterr().err


def test_a_kept_result_that_is_none_is_named(networks, photos, tmp_path, capsys):
    run(occlusion, tmp_path, photos, networks['vit'])
    (kept,) = (tmp_path / 'models').iterdir()
    for content in ('{"mean": ', '[]', '{}'):
        kept.write_text(content)
        with pytest.raises(SystemExit):
            run_tool(lambda: run(occlusion, tmp_path, photos, networks['vit']))
        assert f'{kept} ' in capsys.readouterr().err


@pytest.mark.parametrize('module, key', [(interaction, 'J_low'), (fourier, 'variance_error')])
def test_one_image_has_no_interval(module, key, networks, photos, tmp_path):
    result = run(module, tmp_path, photos, networks['vit'], options=['--count', '1'])
    assert result['models'][0][key] is None
    assert all(row[key] == '' for row in rows(tmp_path))


def test_ctrl_c_says_how_to_go_on(networks, photos, tmp_path, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(analysis.occlusion, 'measure', interrupted)
    with pytest.raises(SystemExit) as end:
        run_tool(lambda: run(occlusion, tmp_path, photos, networks['vit']), AFTER_INTERRUPT)
    assert end.value.code == 130
    assert capsys.readouterr().err == f'interrupted; {AFTER_INTERRUPT}\n'
