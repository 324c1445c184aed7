"""Recognises the layout of a file by the names of its tensors, or says what comes nearest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache

from sakuga.checkpoint.families.layout import KeyLayout
from sakuga.checkpoint.families.match import Match, compiled, find_rule, reason_for, weights_of
from sakuga.checkpoint.families.tables import LAYOUTS
from sakuga.errors import LayoutError
from sakuga.printable import listed
from sakuga.weights.formats import Shape

# Alpha is a number, all others are factors or whole values.
ROLES: Mapping[str, str] = {
    **dict.fromkeys(
        (".lora_A.weight", ".lora_A.default.weight", ".lora_down.weight", ".lora.down.weight",
         ".lora_linear_layer.down.weight", "_lora.down.weight"), "down"),
    **dict.fromkeys(
        (".lora_B.weight", ".lora_B.default.weight", ".lora_up.weight", ".lora.up.weight",
         ".lora_linear_layer.up.weight", "_lora.up.weight"), "up"),
    **dict.fromkeys((".lora_B.bias", ".lora_B.default.bias"), "up_bias"),
    **dict.fromkeys(
        (".dora_scale", ".lora_magnitude_vector", ".lora_magnitude_vector.weight",
         ".lora_magnitude_vector.default.weight"), "magnitude"),
    **{f".lokr_{role}": role for role in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b")},
    **{f".hada_{role}": f"hada_{role}" for role in ("w1_a", "w1_b", "w2_a", "w2_b")},
    ".oft_R.weight": "oft_input",
    ".oft_blocks": "oft_output",
    ".w_norm": "w_norm",
    ".b_norm": "b_norm",
    ".diff": "diff",
    ".diff_b": "diff_b",
    ".alpha": "alpha",
}  # fmt: skip
# Of PEFT's names alone, for every model's own tensors end like these too.
WHOLE_ROLES: Mapping[str, str] = {
    ".base_layer.bias": "whole_bias",
    ".modules_to_save.default.weight": "whole",
    ".modules_to_save.default.bias": "whole_bias",
    ".original_module.weight": "",  # as it was before training, which PEFT saves beside it
    ".original_module.bias": "",
    ".modules_to_save.weight": "whole",
    ".modules_to_save.bias": "whole_bias",
    ".weight": "whole",
    ".bias": "whole_bias",
}
# Changes of other kinds, and tensors that change what those beside them mean: leaving one out
# would draw something else.
OTHER_KINDS: Mapping[str, str] = {
    ".lora_mid.weight": "a Tucker decomposition",
    ".lokr_t2": "a Tucker decomposition",
    ".scalar": "a trained scalar",
    **dict.fromkeys((".hada_t1", ".hada_t2"), "LoHa of convolutions"),
    **dict.fromkeys((".oft_diag", ".oft_S"), "an older OFT"),
    ".rescale": "OFT with a trained rescale",
    **dict.fromkeys((".boft_R", ".boft_s"), "BOFT"),
    **dict.fromkeys(
        (".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight", ".bm1.weight", ".bm2.weight"),
        "GLoRA"),
    **dict.fromkeys((".ia3_l", ".on_input"), "IA3"),
    **dict.fromkeys((".p_layer.weight", ".q_layer.weight", ".lambda_layer"), "T-LoRA"),
    **dict.fromkeys((".vera_lambda_b", ".vera_lambda_d"), "VeRA"),
    ".trainable_tokens_delta": "trained tokens",
}  # fmt: skip
ENDS = (*ROLES, *OTHER_KINDS)

SAMPLE = 300  # names looked at to find the nearest layout of a strange file
MANY = 2000  # names looked at to say what that layout cannot explain
TIME_BIAS = "time_caption_embed.timestep_embedder.linear_1.bias"


def _pattern() -> re.Pattern[str]:
    """A factor anywhere in a name, whatever follows it, but for those that a layout bakes in."""
    listed = {re.sub(r"(\.default)?\.weight$", "", end.removeprefix(".")) for end in ENDS}
    members = r"(?:lokr|hada|oft|boft|glora|diff)_\w+"  # of families, listed above or not
    names = "|".join((*map(re.escape, sorted(listed)), members))
    return re.compile(rf"(?<!parametrizations\.weight\.0)\.(?:{names})(?:\.|$)")


FACTOR = _pattern()


def nearest(key: str, names: Collection[str]) -> str | None:
    """The name most like `key`, if any is."""
    close = get_close_matches(key, names, n=1, cutoff=0.5)
    return close[0] if close else None


def unknown_layout(names: frozenset[str], component: str | None) -> LayoutError:
    """The error for a key set that no layout explains, with the nearest one."""
    rule = "the tensor names of a file tell its layout"
    fix = "Check that this is the file you mean; `sakuga inspect` lists its names"
    ordered = sorted(names)
    some = ordered[:: 1 + len(names) // SAMPLE]
    best, count = _nearest_layout(some, names, component)
    factors = [key for key in some if FACTOR.search(key)]
    if len(factors) > count:
        got = f"names of an adapter, such as {factors[0]!r}"
        return LayoutError(rule, got, "`sakuga lora show` tells of it, and --lora draws with it")
    if best is None:
        got = f"{len(names)} names to which no layout is near: {listed(ordered)}"
        return LayoutError(rule, got, fix)
    got = f"{len(names)} names that fit none; nearest is {best.layout.name!r}"
    if best.prefix not in best.layout.prefixes:
        known = [each for each in best.layout.prefixes if best.prefix.endswith(each)]
        strange = best.prefix.removesuffix(max(known, key=len, default=""))
        got += f" under the unknown prefix {strange!r}"
        fix = f"Take {strange!r} off its names, and save it again"
    lacking = [best.prefix + mark for mark in best.layout.marks if best.prefix + mark not in names]
    odd = _odd(best, ordered[:MANY])
    wrong = [f"would need {listed(lacking)}"] if lacking else []
    wrong += [f"cannot explain {listed(odd)}"] if odd else []
    return LayoutError(rule, ", which ".join(filter(None, (got, " and ".join(wrong)))), fix)


def _nearest_layout(
    some: list[str], names: frozenset[str], component: str | None
) -> tuple[Match | None, int]:
    """The layout and prefix that know most of some names, and how many; (None, 0) for none.

    A prefix that no layout has counts with one of its marks, or with half of the names.
    """
    best: Match | None = None
    most = (0, 0, False)
    for layout in LAYOUTS:
        if component not in (None, layout.component):
            continue
        ends = _ends(layout)
        hits = [ends.fullmatch(name) for name in weights_of(layout, dict.fromkeys(some, ()))]
        for prefix, count in Counter(hit[1] for hit in hits if hit).most_common(4):
            marks = sum(prefix + mark in names for mark in layout.marks)
            known = prefix in layout.prefixes
            rank = count, marks, known
            if rank > most and (known or marks or 2 * count >= len(some)):
                best, most = Match(layout, prefix), rank
    return best, most[0]


@lru_cache(maxsize=32)
def _ends(layout: KeyLayout) -> re.Pattern[str]:
    """A pattern of every name that ends as one of a layout does, whatever it begins with."""
    known = (re.sub(r"\?P<\w+>", "?:", each.pattern) for _, _, each in compiled(layout))
    return re.compile(rf"((?:.*?[._])?)(?:{'|'.join(known)})")


def _odd(match: Match, names: Collection[str]) -> list[str]:
    """The names that a layout neither knows nor has a reason to leave out."""
    return [
        key
        for name, sources in weights_of(match.layout, dict.fromkeys(names, ())).items()
        if find_rule(match, name) is None
        for key in sources
        if reason_for(match, key, None, ()) is None
    ]


def detect(keys: Collection[str], component: str | None = None) -> Match:
    """The one layout whose marks a file carries, by its key set alone.

    Of a file that holds several components under prefixes of their own, the one of `component`.
    Raises LayoutError where there is none (naming the nearest and the keys it cannot
    explain) or more than one, and where it is a layout of another component.
    """
    names = frozenset(keys)
    matches = _matches(names)
    wanted = f" of {component}" if component else ""
    own = [match for match in matches if match.layout.component == component]
    if len(own) == 1 and (beside := _beside(own[0], matches)):
        return replace(own[0], beside=beside)
    if len(matches) > 1:
        found = " and ".join(str(match) for match in matches)
        raise LayoutError(
            f"a file holds one component{wanted}", found, "Split the file, or keep one of them"
        )
    if not matches:
        raise unknown_layout(names, component)
    if component not in (None, matches[0].layout.component):
        raise LayoutError(
            f"this file should hold a component of the kind {component!r}",
            f"{matches[0]} ({matches[0].layout.component})",
            "Put each file into its own component's folder",
        )
    return matches[0]


def held(keys: Collection[str]) -> tuple[str, ...]:
    """The components that a file holds, by its key set; several in an all-in-one file."""
    return tuple(dict.fromkeys(match.layout.component for match in _matches(frozenset(keys))))


def _matches(names: frozenset[str]) -> list[Match]:
    return [
        Match(layout, prefix)
        for layout in LAYOUTS
        for prefix in layout.prefixes
        if all(prefix + mark in names for mark in layout.marks)
    ]


def _beside(own: Match, matches: Sequence[Match]) -> tuple[str, ...]:
    """How the names of all other components begin; none where one begins as `own` does."""
    roots = [_root(own.prefix, other.prefix) for other in matches if other != own]
    return tuple(dict.fromkeys(roots)) if all(roots) else ()


def _root(mine: str, theirs: str) -> str:
    """The beginning of another prefix that is not of this one; "" where all of it is."""
    parts = theirs.split(".")[:-1]
    for end, part in enumerate(parts):
        if mine.split(".")[end : end + 1] != [part]:
            return ".".join(parts[: end + 1]) + "."
    return ""


def recognise(found: Mapping[str, Shape], component: str | None = None) -> Match:
    """`detect`, and the names that only shapes explain.

    Raises LayoutError as `detect` does, and where a layout's provisional names fit no
    tensor of the file, or several.
    """
    match = detect(found, component)
    return _adopted(match, found) if match.layout.provisional else match


def _adopted(match: Match, found: Mapping[str, Shape]) -> Match:
    """The match with the head for the pooled text found by shape, whatever it is called.

    It is a norm (P,), a linear (P, P), and a linear (D, D + P) that takes the time vector and
    the pooled text together; D is the width of the time vector.
    """
    stems: dict[str, dict[str, Shape]] = {}
    for key, shape in found.items():
        hit = find_rule(match, key)
        known = hit is not None and key.removeprefix(match.prefix) not in match.layout.provisional
        if not known and reason_for(match, key, None, ()) is None:
            stem, _, leaf = key.removeprefix(match.prefix).rpartition(".")
            stems.setdefault(stem, {})[leaf] = shape
    (width, *_) = found.get(match.prefix + TIME_BIAS, (0,))
    options = []
    for both, shapes in stems.items():
        rows, columns = shapes["weight"] if len(shapes.get("weight", ())) == 2 else (0, 0)
        pooled = columns - rows
        if rows == width and pooled > 0 and shapes == _linear(width, columns):
            linears = [stem for stem, of in stems.items() if of == _linear(pooled, pooled)]
            norms = [stem for stem, of in stems.items() if of == {"weight": (pooled,)}]
            options += [(norm, linear, both) for norm in norms for linear in linears]
    if not stems:
        return match  # it takes no pooled text
    if len(options) != 1:
        raise LayoutError(
            "NewBie's transformer has a norm and two linears for the pooled text, Lumina 2 none",
            f"{len(options) or 'no'} such sets among {listed(sorted(stems))}",
            "Check that this is the file you mean; `sakuga inspect` lists its names",
        )
    ((norm, linear, both),) = options
    names = (f"{norm}.weight", *(f"{stem}.{leaf}" for stem in (linear, both)
                                 for leaf in ("weight", "bias")))  # fmt: skip
    aliases = tuple(pair for pair in zip(names, match.layout.provisional, strict=True)
                    if pair[0] != pair[1])  # fmt: skip
    return replace(match, aliases=aliases)


def _linear(rows: int, columns: int) -> dict[str, Shape]:
    return {"weight": (rows, columns), "bias": (rows,)}
