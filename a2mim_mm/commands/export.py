"""``a2mim export``: ``tools/convert_checkpoint.py``."""

from .tool import run


def main(argv: list[str]) -> None:
    """Write the backbone of a training for another library."""
    run('export', 'convert_checkpoint', argv)
