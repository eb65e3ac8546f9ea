"""The config of a pre-training as a file that a user can read, change, and train with tools/train.py."""

from pathlib import Path

from mmengine.config import Config

from a2mim_mm.engine.config import load_config
from a2mim_mm.errors import InputError
from a2mim_mm.files import write_whole

NAME = 'config.py'
_OF_MACHINE = ('work_dir', 'num_workers', 'persistent_workers')  # endings of what may differ between machines
# What a call sets; the rest follows from it.
_CALLED = ('settings.', 'model.backbone.', 'train_dataloader.dataset.data_root', 'randomness.', 'start')
_SHOWN = 8


def write_config(path: Path, header: list[str], base: Path, body: dict) -> None:
    """Write a config that inherits another.

    Args:
        path: The file.
        header: Lines of its comment.
        base: The file that it inherits.
        body: What it sets.
    """
    lines = [*(f'# {line}' for line in header), f'_base_ = {str(base)!r}', '']
    sections = [Config({name: value}).pretty_text for name, value in body.items()]
    with write_whole(path) as draft:
        draft.write_text('\n'.join(lines + sections))


def check_same(path: Path, header: list[str], base: Path, body: dict) -> None:
    """Check that a config is the one that would be written.

    Raises:
        ValueError: If it differs. Lists the settings with both values: those of the call, or if they are the
            same, what else was changed in the file.
    """
    draft = path.with_name(f'asked_{NAME}')
    try:
        write_config(draft, header, base, body)
        differing = _differing(Config.fromfile(str(path)), Config.fromfile(str(draft)), _CALLED)
        differing = differing or _differing(load_config(str(path)), load_config(str(draft)), ('',))
    finally:
        draft.unlink(missing_ok=True)
    if differing:
        more = f'\n  and {len(differing) - _SHOWN} more' if len(differing) > _SHOWN else ''
        raise InputError(
            f'{path.parent} holds a pre-training with other settings: give another out, the same settings, '
            'or overwrite=True (--overwrite) to replace it\n  ' + '\n  '.join(differing[:_SHOWN]) + more
        )


def _differing(there: Config, asked: Config, beginnings: tuple[str, ...]) -> list[str]:
    there, asked = _flat(there._cfg_dict), _flat(asked._cfg_dict)
    return [
        f'{name} is {there.get(name, "not set")!r} there, and {asked.get(name, "not set")!r} is asked for'
        for name in sorted(there.keys() | asked.keys())
        if there.get(name) != asked.get(name)
        and name.startswith(beginnings)
        and not name.endswith(_OF_MACHINE)
    ]


def _flat(node: object, name: str = '') -> dict[str, object]:
    """The values of a config by dotted names."""
    if isinstance(node, dict):
        children = node.items()
    elif isinstance(node, (list, tuple)) and any(isinstance(one, dict) for one in node):
        children = enumerate(node)
    else:
        return {name: list(node) if isinstance(node, tuple) else node}
    return {
        key: value
        for child, content in children
        for key, value in _flat(content, f'{name}.{child}'.lstrip('.')).items()
    }
