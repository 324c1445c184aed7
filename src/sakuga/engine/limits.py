"""What running out of memory taught, for as long as it is likely to be true."""

from __future__ import annotations

from collections.abc import Mapping

FORGET_AFTER = 16  # good runs of a stage: a stranger's program may have been in the way


class LearnedLimits:
    """Bytes that stages were planned for and did not get; their next plans stay below.

    A stage that then runs well `forget_after` times is planned freely again.
    """

    def __init__(self, forget_after: int = FORGET_AFTER) -> None:
        self.forget_after = forget_after
        self.refused: dict[str, int] = {}
        self._left: dict[str, int] = {}

    def learn(self, stage: str, planned: int) -> None:
        """A stage that was planned for so many bytes did not get them."""
        self.refused[stage] = min(self.refused.get(stage, planned), planned)
        self._left[stage] = self.forget_after

    def went_well(self, stage: str) -> None:
        """A stage ran as it was planned."""
        if stage not in self.refused:
            return
        self._left[stage] -= 1
        if self._left[stage] == 0:
            del self.refused[stage], self._left[stage]

    @property
    def most(self) -> Mapping[str, int]:
        """By stage, the bytes that it should stay within."""
        return {stage: planned - 1 for stage, planned in self.refused.items()}
