"""A regular expression that is compiled when it is first used: one prompt needs few of them."""

from __future__ import annotations

import re
from functools import cached_property


class Regex:
    """The source of a regular expression; `compiled` is the expression."""

    def __init__(self, source: str, flags: int = 0) -> None:
        self._source, self._flags = source, flags

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The expression itself."""
        return re.compile(self._source, self._flags)
