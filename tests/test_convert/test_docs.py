"""docs/checkpoints.md knows every format, and no other."""

import re
from pathlib import Path

from a2mim_mm.convert import ORIGINS, TARGETS

TEXT = (Path(__file__).parents[2] / 'docs' / 'checkpoints.md').read_text()


def first_column(section):
    rows = TEXT.split(f'## {section}')[1].split('\n## ')[0].splitlines()
    cells = [row.split('|')[1] for row in rows if row.startswith('| `')]
    return [name for cell in cells for name in re.findall(r'`([a-z0-9-]+)`', cell) if name[0] != '-']


def test_all_formats_are_documented():
    assert sorted(first_column('What is read')) == sorted(ORIGINS)
    assert sorted(first_column('What is written')) == sorted(TARGETS)
