"""``a2mim reconstruct``: ``tools/reconstruct.py``."""

from .tool import run


def main(argv: list[str]) -> None:
    """Draw what a pre-trained network predicts."""
    run('reconstruct', 'reconstruct', argv)
