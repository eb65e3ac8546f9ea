"""The sites of a network, of a config or of timm, and the table of the zoo."""

import pytest
from helpers.toy_training import ROOT, tool

list_sites = tool('list_sites')
VIT_S = str(ROOT / 'configs/selfsup/a2mim_vit-s.py')


def rows(capsys, *args):
    """The columns of each site, by its name."""
    list_sites.main([*args])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) > 5 and line[1][0] == 'b'}


def test_a_config_and_its_own_site(capsys):
    found = rows(capsys, VIT_S)
    assert [*found] == [
        'patch_embed',
        'drop_after_pos',
        'pre_norm',
        *[f'layers.{n}' for n in range(12)],
        'ln1',
    ]
    assert found['layers.4'] == ['blc+1', '384', '14', 'x', '14', '16', 'in', 'the', 'config']
    assert found['layers.7'] == ['blc+1', '384', '14', 'x', '14', '16', 'automatic']


def test_a_network_of_timm_at_another_size(capsys):
    pytest.importorskip('timm')
    found = rows(capsys, 'timm:resnet10t', '--image-size', '64', '96')
    assert found['layer3'] == ['bchw', '256', '4', 'x', '6', '16', 'automatic']
    assert {'conv1', 'layer1.0', 'layer4'} < {*found} and 'layer1.0.conv1' not in found


def test_the_mask_patch_of_the_config_counts(capsys):
    found = rows(capsys, str(ROOT / 'configs/selfsup/a2mim_r50.py'), '--cfg-options', 'mask_patch_size=8')
    assert found['layer2'][-1] == 'automatic'


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['timm:resnet19'], "no model 'resnet19'; the nearest names are"),
        (['no/such.py'], 'there is no config file no/such.py'),
        ([VIT_S, '--image-size', '100'], 'size of the input is 100 x 100'),
    ],
)
def test_what_is_refused(args, words):
    with pytest.raises(ValueError, match=words):
        list_sites.main(args)


def test_a_row_of_the_zoo_takes_its_place(tmp_path, monkeypatch, capsys):
    zoo = tool('benchmark/zoo')
    table = tmp_path / 'README.md'
    table.write_text(
        '# Zoo\n\n| network | a |\n|---|---|\n| `aa` | 1 |\n| `resnet18` | old |\n| `zz` | 2 |\n\nEnd\n'
    )
    monkeypatch.setattr(zoo, 'TABLE', table)
    zoo.main(['resnet18', '--batch', '1', '--steps', '1'])
    row = capsys.readouterr().out.strip()
    site = 'layer3 (stride 16, 256 channels) | 512 -> 3 x 32 x 32'
    assert row.startswith(
        f'| `resnet18` | 11.2 | 1.81 | {site} | '
    )  # torchvision: 11.69 M, 1.81 GMACs with fc
    assert float(row.split('|')[-2]) > 0
    before, after = table.read_text().split(row)
    assert before.endswith('| `aa` | 1 |\n') and after == '\n| `zz` | 2 |\n\nEnd\n'
