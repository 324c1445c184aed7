"""A layout found in a file: what each name means there, what it becomes, what is left over."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sakuga.checkpoint.families.layout import WORDS, KeyLayout, Rule
from sakuga.weights.formats import Shape

# What torch calls a weight that a parametrization stands in place of, and its factors.
ORIGINAL = ".parametrizations.weight.original"
FACTORS = (".parametrizations.weight.0.lora_A", ".parametrizations.weight.0.lora_B")


@dataclass(frozen=True, slots=True)
class BakedAdapter:
    """Which of a file's adapters is baked in, and at what scale (alpha / rank).

    A file that has them keeps, in place of `m.weight`, the weight W and two factors A and B,
    stacked by adapter: W + scale·B·A is the weight of a linear (A: rank, in; B: out, rank),
    W + scale·A·B that of an embedding (A: rows, rank; B: rank, width). Without a config the
    first adapter counts, at the scale of 1 that published merges use.
    Source: XLMRobertaLoRA of jinaai/xlm-roberta-flash-implementation.
    """

    index: int = 0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Match:
    """A layout recognised in a file, with the prefix the file puts before every name.

    `aliases`: (name in the file, name in the layout), for names that only shapes explain.
    `beside`: how the names of other components in the file begin.
    """

    layout: KeyLayout
    prefix: str = ""
    aliases: tuple[tuple[str, str], ...] = ()
    adapter: BakedAdapter = BakedAdapter()
    beside: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.layout.name + (f" under {self.prefix!r}" if self.prefix else "")


def find_rule(match: Match, key: str) -> tuple[Rule, int, tuple[tuple[str, str], ...]] | None:
    """The rule that knows a name, the name's place in it, and what its placeholders held."""
    if not key.startswith(match.prefix):
        return None
    rest = key[len(match.prefix) :]
    rest = dict(match.aliases).get(rest, rest)
    for rule, place, pattern in compiled(match.layout):
        if hit := pattern.fullmatch(rest):
            return rule, place, tuple(sorted(hit.groupdict().items()))
    return None


@lru_cache(maxsize=32)
def compiled(layout: KeyLayout) -> tuple[tuple[Rule, int, re.Pattern[str]], ...]:
    """Every name that a layout knows, as a pattern, with its rule and its place in that."""
    return tuple(
        (rule, place, _regex(pattern))
        for rule in layout.rules
        for place, pattern in enumerate(rule.theirs)
    )


@lru_cache(maxsize=1024)
def _regex(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern).replace(r"\*", ".*")
    return re.compile(re.sub(r"\\{(\w+)\\}", _group, text))


def _group(placeholder: re.Match[str]) -> str:
    """What stands for a placeholder: one of its words, kept under its name."""
    return f"(?P<{placeholder[1]}>{WORDS[placeholder[1]]})"


def reason_for(match: Match, key: str, ours: str | None, wanted: Collection[str]) -> str | None:
    """Why a tensor the model does not use may be there; None if nothing says so."""
    if key.startswith(match.beside):
        return "it is of another component in this file"
    for drop in match.layout.drops:
        name = ours if drop.spare else key
        pattern = drop.pattern.replace("{beyond}", str(_beyond(wanted)))
        if name is not None and _regex(pattern).fullmatch(name):
            return drop.reason
    return None


def _beyond(wanted: Collection[str]) -> int:
    """The number of the layer just after the model's last."""
    numbers = [int(hit[1]) for key in wanted if (hit := re.match(r"layers\.(\d+)\.", key))]
    return max(numbers, default=-1) + 1


def weights_of(layout: KeyLayout, found: Mapping[str, Shape]) -> dict[str, tuple[str, ...]]:
    """Every tensor by name with what it is made of: itself, or W, A and B under W's plain name.

    torch names them so where a parametrization stands in place of a weight.
    """
    if not layout.baked:
        return {key: (key,) for key in found}
    weights: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()
    for key in found:
        if key.endswith(ORIGINAL):
            stem = key.removesuffix(ORIGINAL)
            factors = tuple(stem + factor for factor in FACTORS)
            sources = (key, *(name for name in factors if name in found))
            if len(sources) in (1, 3) and stem + ".weight" not in found:
                weights[stem + ".weight"] = sources
                taken.update(sources)
    return weights | {key: (key,) for key in found if key not in taken}


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
    weights = weights_of(match.layout, found)
    groups: dict[tuple[Rule, tuple[tuple[str, str], ...]], dict[int, str]] = {}
    left: list[str] = []
    for key, sources in weights.items():
        hit = find_rule(match, key)
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
    hit = find_rule(Match(layout.inverse), key)
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
