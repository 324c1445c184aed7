"""A layout found in a file: which rule knows a name there, and why a name may be left over."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sakuga.checkpoint.layouts.layout import WORDS, KeyLayout, Rule, Shape

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
    """

    layout: KeyLayout
    prefix: str = ""
    aliases: tuple[tuple[str, str], ...] = ()
    adapter: BakedAdapter = BakedAdapter()

    def __str__(self) -> str:
        return self.layout.name + (f" under {self.prefix!r}" if self.prefix else "")


def find(match: Match, key: str) -> tuple[Rule, int, tuple[tuple[str, str], ...]] | None:
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


def weights_in(layout: KeyLayout, found: Mapping[str, Shape]) -> dict[str, tuple[str, ...]]:
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
