"""The configs for one's own data, custom_coco.py and custom_masks.py, with their three variables set."""

import re

from helpers.toy_training import ROOT


def write_own_config(path, template, base=None, **variables):
    """Copy a config with its three variables set and, if asked, on another config of its folder."""
    template = ROOT / 'configs' / template
    text = template.read_text()
    for name, value in variables.items():
        text, count = re.subn(rf'^{name} = [^#\n]*', f'{name} = {value!r}  ', text, flags=re.MULTILINE)
        assert count == 1, name
    (inherited,) = re.findall(r"^_base_ = '\./(.*)'", text, flags=re.MULTILINE)
    text = re.sub(
        r"^_base_ = '.*'", f"_base_ = '{template.parent / (base or inherited)}'", text, flags=re.MULTILINE
    )
    path.write_text(text)
    return str(path)
