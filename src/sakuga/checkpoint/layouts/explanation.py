"""Every key of a file against the tensors a model wants: what fits, what is left, what lacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sakuga.checkpoint.layouts.layout import Shape
from sakuga.checkpoint.layouts.match import Match, reason_for
from sakuga.checkpoint.layouts.pieces import TensorPiece


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every key accounted for: what fills the model, what is left out and why, what is wrong.

    `wrong` holds (our key, shape got, shape wanted).
    """

    match: Match
    pieces: tuple[TensorPiece, ...]
    dropped: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong: tuple[tuple[str, Shape, Shape], ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, left over, or of another shape."""
        return not (self.missing or self.unexpected or self.wrong)


def explain(
    match: Match,
    made: Iterable[TensorPiece],
    found: Mapping[str, Shape],
    wanted: Mapping[str, Shape],
) -> Explanation:
    """Account for every key of a file against the tensors a model wants. Reads no data.

    made: what `rewrite` makes of the file's names and shapes, `found`. wanted: the model's.
    """
    made = tuple(made)
    pieces = {piece.target: piece for piece in made if piece.target in wanted}
    spare = {
        key: piece.target for piece in made if piece.target not in wanted for key in piece.sources
    }
    used = {key for piece in pieces.values() for key in piece.sources}
    dropped, unexpected = [], []
    for key in found:
        if key in used:
            continue
        reason = reason_for(match, key, spare.get(key), wanted)
        if reason is None:
            unexpected.append(key)
        else:
            dropped.append((key, reason))
    return Explanation(
        match=match,
        pieces=tuple(pieces[key] for key in wanted if key in pieces),
        dropped=tuple(dropped),
        missing=tuple(key for key in wanted if key not in pieces),
        unexpected=tuple(unexpected),
        wrong=tuple(
            (key, piece.shape, wanted[key])
            for key, piece in pieces.items()
            if piece.shape != wanted[key]
        ),
    )
