"""What the documents say about the tree and the code is so."""

import importlib.util
import re
import shlex
import subprocess

import pytest
import torch
from helpers.toy_training import ROOT, tool
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample
from PIL import Image

from a2mim_mm.models import A2MIM, focal_frequency_loss
from a2mim_mm.models.masking import resize_mask
from a2mim_mm.registry import MODELS

DOCUMENTS = sorted(
    path
    for pattern in ('*.md', 'docs/*.md', 'configs/**/*.md', 'projects/**/*.md')
    for path in ROOT.glob(pattern)
)
README = (ROOT / 'README.md').read_text()
FOLDERS = r'(?:a2mim_mm|configs|docs|projects|requirements|tests|tools)'


def snippet(words: str) -> str:
    """The one Python example of the README that has these words."""
    (code,) = (code for code in re.findall(r'```python\n(.*?)```', README, re.DOTALL) if words in code)
    return code


@pytest.fixture(scope='module')
def model() -> A2MIM:
    """The ViT of the demonstration, untrained."""
    cfg = Config.fromfile(ROOT / 'configs/selfsup/demo_vit.py')
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    torch.nn.init.normal_(model.mask_token.token)  # so that it matters
    model.cfg = cfg
    return model.eval()


def test_the_lines_of_the_method_compute_the_loss(model):
    images, seeds = torch.randn(3, 3, 64, 64), [1, 2, 3]
    known = dict(
        torch=torch,
        resize_mask=resize_mask,
        focal_frequency_loss=focal_frequency_loss,
        model=model,
        images=images,
        seeds=seeds,
    )
    exec(snippet('model.mask_token.masked'), known)
    losses = model.loss([images], [DataSample(mask_seed=seed) for seed in seeds])
    torch.testing.assert_close(known['loss_spa'], losses['loss_spa'])
    torch.testing.assert_close(known['loss'], sum(losses.values()))
    known['loss'].backward()
    own = [param.grad.clone() for param in model.parameters()]
    model.zero_grad()
    sum(losses.values()).backward()
    torch.testing.assert_close(own, [param.grad for param in model.parameters()])


def test_the_example_of_any_backbone_runs():
    code = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/any_backbone.md').read_text(), re.DOTALL)
    known = {}
    exec(next(block for block in code if 'model.found' in block), known)
    assert known['model'].mask_token.site == '6'


def test_the_example_of_the_python_api_runs(model, sample_photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'work_dirs/demo_vit').mkdir(parents=True)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/sample_photos').symlink_to(sample_photos)
    checkpoint = dict(state_dict=model.state_dict(), meta=dict(cfg=model.cfg.pretty_text))
    torch.save(checkpoint, 'work_dirs/demo_vit/epoch_30.pth')
    found = {}
    exec(snippet('load_backbone'), found)
    assert found['pooled'].shape == (12, 128)
    assert found['features'].keys() == {'layers.1', 'layers.3'}
    assert found['pictures']['composite'].shape == (12, 3, 64, 64)


def test_the_picture_of_the_method_is_drawn(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location('draw_method', ROOT / 'docs/draw_method.py')
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, 'STEPS', 2)
    script.main(['--out', str(tmp_path / 'method.png')])
    assert Image.open(tmp_path / 'method.png').size == Image.open(ROOT / 'docs/method.png').size
    assert (ROOT / 'docs/method.png').stat().st_size < 400_000


def commands() -> list[str]:
    """The calls of our Python tools in all documents, each once, in one line; [...] marks a template."""
    text = '\n'.join(path.read_text() for path in DOCUMENTS).replace('\\\n', ' ')
    lines = re.findall(r'^ {4,}python (tools/[^\n[#]*)(?:#.*)?$', text, re.MULTILINE)
    return sorted({' '.join(line.split()) for line in lines})


@pytest.mark.parametrize('command', commands())
def test_commands_are_understood(command):
    path, *arguments = shlex.split(command)
    name = path.removeprefix('tools/').removesuffix('.py')
    folder, _, stem = name.rpartition('/')
    parse = getattr(tool('analysis/arguments'), f'parse_{stem}') if folder else tool(name).parse_args
    parse(arguments)


def test_words_of_a2mim_are_understood():
    text = '\n'.join(path.read_text() for path in DOCUMENTS).replace('\\\n', ' ')
    lines = re.findall(r'^ {4,}a2mim ([^\n[#]*)(?:#.*)?$', text, re.MULTILINE)
    assert len(lines) > 8
    for line in lines:
        word, *arguments = shlex.split(line)
        if word in ('reconstruct', 'export'):
            tool(dict(export='convert_checkpoint').get(word, word)).parse_args(arguments)
        else:
            importlib.import_module(f'a2mim_mm.commands.{word}').parse_args(arguments)


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_names_of_files_exist(path):
    text = path.read_text()
    links = [link for link in re.findall(r'\]\(([^)#\s]+)', text) if '://' not in link]
    absent = [link for link in links if not (path.parent / link).exists()]
    named = re.findall(rf'(?<![\w./-]){FOLDERS}/[\w./-]*\w\.(?:py|sh|md|txt|png)\b', text)
    absent += [name for name in named if not (ROOT / name).exists() and not (path.parent / name).exists()]
    assert not absent
    anchors = re.findall(r'\]\(([^)#\s]*)#([^)\s]+)\)', text)
    for link, anchor in anchors:
        headings = re.findall(r'^#+ (.*)$', (path.parent / link if link else path).read_text(), re.MULTILINE)
        slugs = [re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings]
        assert anchor in slugs, f'{link}#{anchor}'


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_are_wrapped(path):
    too_long = [line for line in path.read_text().splitlines() if len(line) > 100 and line.strip()[0] != '|']
    assert not too_long


def test_every_document_is_found():
    listed = subprocess.run(['git', 'ls-files', '*.md'], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip('not a git checkout')
    assert {ROOT / name for name in listed.stdout.splitlines()} <= {*DOCUMENTS}
