"""What a user can mend, as exceptions; and lists of names for their messages."""

from collections.abc import Sequence

_NAMES_SHOWN = 5


class UserError(Exception):
    """Something that the user can mend: the tools print its message without a traceback."""


class InputError(UserError, ValueError):
    """A config, argument, file or data set holds something that is not allowed."""


def first_names(names: Sequence[str]) -> str:
    """The first few of a list of names, and how many more there are."""
    more = len(names) - _NAMES_SHOWN
    return ', '.join(names[:_NAMES_SHOWN]) + (f', and {more} more' if more > 0 else '')
