"""What a file of weights holds under our names: read from its header, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sakuga.checkpoint.layouts.detect import recognise
from sakuga.checkpoint.layouts.explanation import Explanation, explain
from sakuga.checkpoint.layouts.layout import Shape
from sakuga.checkpoint.layouts.match import Match
from sakuga.checkpoint.layouts.pieces import TensorPiece, rewrite
from sakuga.weights.formats import StoredTensor, logical_shapes, read_storage_metadata
from sakuga.weights.store import Store


@dataclass(frozen=True, slots=True)
class Contents:
    """A store whose tensors are understood.

    match: how it names them. stored: those that it keeps quantised, by its names. shapes: of all,
    by its names, a quantised tensor and its scales taken as one. pieces: how each tensor of ours
    is made of them, by our names.
    """

    store: Store
    match: Match
    stored: Mapping[str, StoredTensor]
    shapes: Mapping[str, Shape]
    pieces: Mapping[str, TensorPiece]

    @classmethod
    def of(cls, store: Store, match: Match | None = None) -> Contents:
        """Understand a store by its header. match: by default what its names and shapes tell.

        Raises LayoutError where the layout is unknown, CorruptFile where quantised tensors and
        their scales contradict each other.
        """
        stored, shapes = read_shapes(store)
        match = match or recognise(shapes)
        return cls(store, match, stored, shapes, made_of(match, shapes))

    def explain(self, wanted: Mapping[str, Shape]) -> Explanation:
        """Account for every key against the tensors that a model wants, by our names."""
        return explain(self.match, self.pieces.values(), self.shapes, wanted)


def read_shapes(store: Store) -> tuple[dict[str, StoredTensor], dict[str, Shape]]:
    """The quantised tensors of a store, and the shapes of all, by its names.

    Raises CorruptFile where quantised tensors and their scales contradict each other.
    """
    stored = read_storage_metadata(store.metadata)
    return stored, logical_shapes(store.shapes(), store.dtypes(), stored)


def made_of(match: Match, shapes: Mapping[str, Shape]) -> dict[str, TensorPiece]:
    """How each tensor of ours, by our names, is made of those of a file."""
    pieces, _ = rewrite(match, shapes)
    return {piece.target: piece for piece in pieces}
