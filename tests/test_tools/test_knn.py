"""tools/knn.py: its accuracy is scikit-learn's on the features of all images, as tests see them."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from helpers.toy_training import ROOT, tool
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from sklearn.neighbors import KNeighborsClassifier

from a2mim_mm.analysis import knn
from a2mim_mm.apis import extract_features
from a2mim_mm.engine.config import load_config
from a2mim_mm.engine.run_tool import run_tool

SIZE = 64
COUNTS = dict(train=(13, 10, 8), test=(5, 6, 4))
SHORT = (
    73  # short side of the test images: the pipeline then neither resizes nor, of a square, prefers a side
)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Three classes of noisy colours, too alike to be told apart always."""
    root, noise = tmp_path_factory.mktemp('knn'), np.random.default_rng(0)
    for split, counts in COUNTS.items():
        for label, count in enumerate(counts):
            folder = root / split / 'abc'[label]
            folder.mkdir(parents=True)
            for index in range(count):
                coarse = noise.normal(110 + 12 * label, 40, (6, 6, 3)).clip(0, 255).astype(np.uint8)
                picture = cv2.resize(coarse, (SHORT, SHORT))
                cv2.imwrite(str(folder / f'{index}.png'), picture)
    return root


@pytest.fixture
def config(folders, tmp_path):
    path = tmp_path / 'neighbours.py'
    path.write_text(
        f"""
_base_ = {str(ROOT / 'projects/clothing/configs/linear_resnet18.py')!r}
model = dict(head=dict(num_classes=3))
loader = dict(num_workers=0, persistent_workers=False, batch_size=4)
train_dataloader = dict(**loader, dataset=dict(data_root={str(folders / 'train')!r}))
test_dataloader = dict(**loader, dataset=dict(data_root={str(folders / 'test')!r}))
"""
    )
    return path


@pytest.fixture
def backbone(config):
    """A backbone whose BatchNorm has seen images, so that its mode matters, and its checkpoint."""
    torch.manual_seed(0)
    init_default_scope('mmpretrain')
    network = MODELS.build(Config.fromfile(config).model.backbone)
    network.init_weights()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    path = config.parent / 'backbone.pth'
    torch.save(network.state_dict(), path)
    return network, path


def features(network, folder):
    """Pooled features and labels of all images, cropped by hand, without the pipelines."""
    pictures, labels = [], []
    for path in sorted(folder.glob('*/*.png')):
        low = (SHORT - SIZE) // 2
        crop = cv2.imread(str(path))[low : low + SIZE, low : low + SIZE, ::-1]
        pictures.append(torch.from_numpy(crop.copy()).permute(2, 0, 1).float() / 255)
        labels.append('abc'.index(path.parent.name))
    (feature,) = extract_features(network, torch.stack(pictures))
    return feature.mean(dim=(2, 3)).double().numpy(), np.array(labels)


@pytest.mark.parametrize('k', [1, 5, 31])
def test_accuracy_is_that_of_scikit_learn(config, folders, backbone, k, capsys):
    network, checkpoint = backbone
    out = config.parent / 'metrics.json'
    metrics = tool('knn').main(
        [str(config), '--pretrained', str(checkpoint), '--k', str(k), '--out', str(out)]
    )
    classifier = KNeighborsClassifier(
        k, metric='cosine', weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    expected = classifier.fit(*features(network, folders / 'train')).score(
        *features(network, folders / 'test')
    )
    assert metrics == {'accuracy/top1': pytest.approx(100 * expected)}
    assert json.loads(out.read_text()) == metrics
    printed = capsys.readouterr().out
    assert '31 neighbours, 15 test images' in printed
    assert 'loaded' in printed


def test_folders_of_other_classes_are_refused(config, folders, tmp_path, capsys):
    shutil.copytree(folders / 'test' / 'b', tmp_path / 'fewer' / 'b')
    options = ['--cfg-options', f'test_dataloader.dataset.data_root={tmp_path / "fewer"}']
    with pytest.raises(SystemExit):
        run_tool(lambda: tool('knn').main([str(config), *options]))
    message = 'training images has 3 classes and test images 1; only one of them has a, c'
    assert message in capsys.readouterr().err


def test_a_random_start_follows_its_seed(config):
    seeds = [[str(config), '--k', '3', '--seed', seed] for seed in ('0', '0', '1')]
    models = [knn.load_classifier(load_config(args[0]), None, int(args[-1])).state_dict() for args in seeds]
    name = 'backbone.layer1.0.conv1.weight'
    assert torch.equal(models[0][name], models[1][name])
    assert not torch.equal(models[0][name], models[2][name])


def test_a_k_beyond_the_images_is_refused_before_they_are_read(config, monkeypatch):
    monkeypatch.setattr(knn, 'extract', lambda *args: pytest.fail('features were extracted'))
    with pytest.raises(ValueError, match=r'k must be in 1\.\.31'):
        tool('knn').main([str(config), '--k', '32'])


@pytest.mark.parametrize(
    'args, words',
    [
        (['--k', '32'], 'k must be in 1..31'),
        (['--pretrained', 'absent.pth'], 'there is no checkpoint at absent.pth'),
        (['--cfg-options', 'model.neck=None'], 'needs a neck'),
        (['--cfg-options', 'test_dataloader=None'], 'no test_dataloader'),
    ],
)
def test_what_the_user_can_mend_is_one_message(config, args, words, capsys):
    with pytest.raises(SystemExit) as end:
        run_tool(lambda: tool('knn').main([str(config), *args]))
    assert end.value.code == 1
    assert words in capsys.readouterr().err
