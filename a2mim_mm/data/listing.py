"""Which of the files that a data set names are not there."""

import os
from collections import Counter
from collections.abc import Iterable

_ENDINGS_SHOWN = 5


def absent_files(paths: Iterable[str]) -> list[str]:
    """The paths that do not exist. Each folder is listed once, which is cheap on network disks too."""
    folders: dict[str, set[str]] = {}
    absent = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = set(os.listdir(folder or '.')) if os.path.isdir(folder or '.') else set()
        if name not in folders[folder]:
            absent.append(path)
    return absent


def endings(folder: str) -> Counter[str]:
    """How many files of each ending a folder and its sub-folders hold, without hidden files."""
    names = (name for _, _, names in os.walk(folder, followlinks=True) for name in names if name[0] != '.')
    return Counter(os.path.splitext(name)[1] for name in names)


def endings_text(counts: Counter[str]) -> str:
    """The most frequent endings, as '12 x .JPG, 3 x .png'."""
    listed = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:_ENDINGS_SHOWN]
    return ', '.join(f'{count} x {end or "no ending"}' for end, count in listed)
