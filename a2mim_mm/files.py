"""Files that are there whole or not at all; what is in them; and which packages made them."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_BLOCK = 1 << 20  # bytes


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Write a file so that a reader never sees half of it.

    Args:
        path: Where the file goes; folders are created, and a file that is there is replaced.

    Yields:
        The path of a draft in the same folder. The draft becomes the file when the context ends, and is
        removed after an error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f'.{path.name}.part')
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file whole."""
    with write_whole(path) as draft:
        draft.write_text(json.dumps(content, indent=2) + '\n')


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def package_version(name: str) -> str | None:
    """Version of an installed package; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
