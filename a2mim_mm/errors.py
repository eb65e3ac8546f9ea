"""Errors that a user can mend, and how messages list names."""

from collections.abc import Sequence

_NAMES_SHOWN = 5


def first_names(names: Sequence[str]) -> str:
    """The first few of a list of names, and how many more there are."""
    more = len(names) - _NAMES_SHOWN
    return ', '.join(names[:_NAMES_SHOWN]) + (f', and {more} more' if more > 0 else '')
