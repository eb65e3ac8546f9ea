"""The command ``a2mim``, also ``python -m a2mim_mm``: one module for each word that may follow."""

import difflib
import importlib
import sys

_COMMANDS = dict(
    pretrain='pre-train a network on a folder of images',
    embed='write features of images to a file',
    probe='classify images by frozen features: nearest neighbours and a linear classifier',
    reconstruct='draw what a pre-trained network predicts (tools/reconstruct.py)',
    export='write the backbone for another library (tools/convert_checkpoint.py)',
)


def main(argv: list[str] | None = None) -> None:
    """Run a command. Each answers ``--help``."""
    argv = sys.argv[1:] if argv is None else argv
    name = argv[0] if argv else '--help'
    if name in ('-h', '--help'):
        print('usage: a2mim COMMAND ...\n')
        print('\n'.join(f'  {command:<13}{text}' for command, text in _COMMANDS.items()))
        print('\na2mim COMMAND --help tells the rest')
        return
    if name not in _COMMANDS:
        near = difflib.get_close_matches(name, _COMMANDS, n=1)
        known = f'did you mean {near[0]}?' if near else f'known: {", ".join(_COMMANDS)}'
        print(f'a2mim: there is no command {name!r}; {known}', file=sys.stderr)
        sys.exit(2)
    importlib.import_module(f'a2mim_mm.commands.{name}').main(argv[1:])
