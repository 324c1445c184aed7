"""How each tensor of ours is made of the tensors of a file, by the rules of its layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sakuga.checkpoint.layouts.layout import KeyLayout, Rule, Shape
from sakuga.checkpoint.layouts.match import BakedAdapter, Match, find, weights_in


@dataclass(frozen=True, slots=True)
class TensorPiece:
    """How one tensor is made: rows `rows` (None: all) of its sources laid end to end.

    Where there is an `adapter`, the sources are W, A and B instead, and the rows are those of
    the weight they make. The result is seen in `shape`, () where the sources do not fit, and
    `shift` is added to its values.
    """

    target: str
    sources: tuple[str, ...]
    shape: Shape
    rows: tuple[int, int] | None = None
    adapter: BakedAdapter | None = None
    shift: float = 0.0


def rewrite(
    match: Match, found: Mapping[str, Shape], wanted: Mapping[str, Shape] | None = None
) -> tuple[tuple[TensorPiece, ...], tuple[str, ...]]:
    """Apply the rules to every name: what can be made, and the names no rule knows.

    A split follows the rows in `wanted`, or is even where that says nothing.
    """
    weights = weights_in(match.layout, found)
    groups: dict[tuple[Rule, tuple[tuple[str, str], ...]], dict[int, str]] = {}
    left: list[str] = []
    for key, sources in weights.items():
        hit = find(match, key)
        if hit is None:
            left.extend(sources)
        else:
            rule, place, words = hit
            groups.setdefault((rule, words), {})[place] = key
    last = max((int(value) for _, words in groups for name, value in words if name == "up"),
               default=0)  # fmt: skip
    pieces: list[TensorPiece] = []
    for (rule, words), keys in groups.items():
        if len(keys) < len(rule.theirs):
            left.extend(source for key in keys.values() for source in weights[key])
            continue
        other = {name: last - int(value) if name == "up" else value for name, value in words}
        targets = tuple(pattern.format(**other) for pattern in rule.ours)
        parts = [weights[keys[place]] for place in range(len(rule.theirs))]
        pieces.extend(_pieces(match, rule, parts, targets, found, wanted or {}))
    return tuple(pieces), tuple(left)


def spellings(layout: KeyLayout, key: str) -> tuple[str, ...]:
    """The names under which a layout's files keep one tensor of ours; none if it knows it not.

    Several are joined along their rows, in this order.
    """
    hit = find(Match(layout.inverse), key)
    if hit is None:
        return ()
    rule, _, words = hit
    return tuple(pattern.format(**dict(words)) for pattern in rule.ours)


def is_embedding(target: str) -> bool:
    """Whether a weight of ours, by name, is a table whose rows are looked up."""
    return target.split(".")[-2:-1] in (["word_embeddings"], ["token_type_embeddings"])


def _pieces(
    match: Match,
    rule: Rule,
    parts: list[tuple[str, ...]],
    targets: tuple[str, ...],
    found: Mapping[str, Shape],
    wanted: Mapping[str, Shape],
) -> Iterator[TensorPiece]:
    """What one rule makes of whole tensors, each given by its sources."""
    baked = len(parts) == 1 and len(parts[0]) == 3
    adapter = match.adapter if baked else None
    sources = tuple(key for part in parts for key in part)
    whole = _joined([found[part[0]] for part in parts], rule.ones)
    if adapter and not _fits(adapter, targets[0], *(found[key] for key in sources)):
        whole = ()
    if len(targets) == 1 or not whole:
        yield from (
            TensorPiece(target, sources, whole, adapter=adapter, shift=rule.shift)
            for target in targets
        )
        return
    counts = [wanted[key][0] if wanted.get(key) else 0 for key in targets]
    if sum(counts) != whole[0]:
        counts = [whole[0] // len(targets)] * len(targets)
    start = 0
    for target, count in zip(targets, counts, strict=True):
        rows = (start, start + count)
        yield TensorPiece(target, sources, (count, *whole[1:]), rows, adapter, rule.shift)
        start += count


def _joined(shapes: list[Shape], ones: int) -> Shape:
    """The shape of tensors laid end to end, without or with dimensions of 1 at its end."""
    whole = shapes[0]
    if len(shapes) > 1:
        fits = all(shape and shape[1:] == whole[1:] for shape in shapes)
        whole = (sum(shape[0] for shape in shapes), *whole[1:]) if fits else ()
    if ones > 0 and whole[-ones:] == (1,) * ones:
        return whole[:-ones]
    return whole + (1,) * -ones


def _fits(adapter: BakedAdapter, target: str, weight: Shape, a: Shape, b: Shape) -> bool:
    """Whether an adapter of the file has these factors, and they make a weight of this shape."""
    if len(weight) != 2 or len(a) != 3 or len(b) != 3 or not a[0] == b[0] > adapter.index:
        return False
    left, right = (a, b) if is_embedding(target) else (b, a)
    return left[2] == right[1] and (left[1], right[2]) == weight
