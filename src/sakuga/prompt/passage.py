"""A text made from the user's by edits, which knows where each of its characters was written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sakuga.prompt.nodes import Offsets
from sakuga.prompt.rules import Edit


@dataclass(frozen=True, slots=True)
class Passage:
    """A text, and the way from its offsets back to those of the text the user gave."""

    text: str
    origin: Offsets

    def after(self, start: int) -> Passage:
        """The passage from an offset on."""
        return self.edited((Edit(0, start, ""),)) if start else self

    def edited(self, edits: Iterable[Edit]) -> Passage:
        """The passage with edits made; they are in reading order and do not overlap."""
        back = Offsets(0, self.origin.at(0))
        pieces: list[str] = []
        length = done = 0
        for edit in (*edits, Edit(len(self.text), len(self.text), "")):
            for key, value in self.origin.runs(done, edit.start):
                back.add(length + key - done, value)
            length += edit.start - done
            if edit.replacement:
                back.add(length, self.origin.at(edit.start))
            pieces += self.text[done : edit.start], edit.replacement
            length += len(edit.replacement)
            done = edit.end
        return Passage("".join(pieces), back)
