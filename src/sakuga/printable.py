"""Text from elsewhere, made safe to show: names in a file can hold what a terminal obeys."""

from __future__ import annotations


def shown(text: str) -> str:
    """A line of text with all that is not printable written out, as Python would write it.

    That is: escapes and other controls, line ends, marks that turn the direction of writing,
    and what is no character at all. Printable text of any script stays as it is.
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
