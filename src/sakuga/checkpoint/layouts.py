"""The naming habits of checkpoints, as tables of rules that read in both directions.

A layout says how a file spells the tensors of one component. Our own spelling, on the
right of each rule, is the state dict of the module that computes: the original's names
for NextDiT, transformers' for the encoders, diffusers' for the autoencoder. A rule never
computes anything but rows: one tensor split, or several joined, along their first
dimension, or seen with other dimensions of 1. There are two exceptions: a number added to
every value, and baking: a weight that comes with an adapter of its own (see `Adapter`) is
taken as their sum. Names and shapes are all that is looked at; file names and configs play
no part.

Placeholders in patterns: {n} and {m} are numbers, {up} is a number that the other side
counts from the other end, {p} is weight or bias, and the words of WORDS below stand for one
of a few names. `*` in a drop stands for anything.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache

from sakuga.errors import LayoutError

Shape = tuple[int, ...]

ORIGINAL = ".parametrizations.weight.original"
FACTORS = (".parametrizations.weight.0.lora_A", ".parametrizations.weight.0.lora_B")
TIME_BIAS = "time_caption_embed.timestep_embedder.linear_1.bias"
WRAPPERS = ("model.", "state_dict.", "module.")
SAMPLE = 300  # names looked at to find the nearest layout of a strange file
MANY = 2000  # names looked at to say what that layout cannot explain
# How the factors of adapters are called, but for those that a layout bakes in.
ADAPTER = re.compile(
    r"(?<!parametrizations\.weight\.0)\.(?:lora_(?:A|B|up|down|mid|magnitude_vector)|lora\.(?:up|down)"
    r"|(?:lokr|hada|oft|boft|glora|diff)_\w+|dora_scale|[wb]_norm|alpha)(?:\.|$)"
)
NUMBER = r"0|[1-9][0-9]{0,5}"

WORDS = {
    "n": NUMBER,
    "m": NUMBER,
    "up": NUMBER,
    "p": r"weight|bias",
    "refined": r"noise_refiner|layers",
    "stack": r"noise_refiner|context_refiner|layers",
    "w": r"w1|w2|w3",
    "side": r"encoder|decoder",
    "blocks": r"down_blocks|up_blocks",
    "scale": r"downsamplers|upsamplers",
    "resnet": r"norm1|conv1|norm2|conv2|conv_shortcut",
    "inner": r"norm1|conv1|norm2|conv2",
    "qkv": r"q|k|v",
    "attn": r"group_norm|to_q|to_k|to_v|to_out\.0",
    "end": r"conv_in|conv_norm_out|conv_out",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Tensors of the file that are tensors of ours: 1 to 1, 1 split to n, or n joined to 1.

    `ones`: how many dimensions of 1 theirs have at their end and ours lack, as a 1x1
    convolution has beside a linear; negative the other way round. `shift`: what is added to
    their values to give ours.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    ones: int = 0
    shift: float = 0.0

    @property
    def inverse(self) -> Rule:
        """The same fact, read the other way."""
        return Rule(self.ours, self.theirs, -self.ones, -self.shift)


@dataclass(frozen=True, slots=True)
class Drop:
    """Tensors a file may hold and our model may lack, and why that is right.

    `pattern` is of the file's full names. Where `spare`, it is of our names instead, for
    tensors that a rule knows and some models do without; {beyond} is then the number of
    the layer just after the model's last.
    """

    pattern: str
    reason: str
    spare: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """One spelling of one component. `marks` are the keys that give it away.

    `provisional`: names that no published file confirms. They are written as they stand here,
    and read under any name, by shape. `baked`: whether weights may come with adapters.
    """

    name: str
    component: str
    marks: tuple[str, ...]
    rules: tuple[Rule, ...]
    prefixes: tuple[str, ...] = ("",)
    drops: tuple[Drop, ...] = ()
    provisional: tuple[str, ...] = ()
    baked: bool = False

    @property
    def inverse(self) -> Layout:
        """The layout that spells our tensors as this one's files do. Drops carry nothing back."""
        return replace(self, rules=tuple(rule.inverse for rule in self.rules), drops=())


@dataclass(frozen=True, slots=True)
class Adapter:
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

    layout: Layout
    prefix: str = ""
    aliases: tuple[tuple[str, str], ...] = ()
    adapter: Adapter = Adapter()

    def __str__(self) -> str:
        return self.layout.name + (f" under {self.prefix!r}" if self.prefix else "")


@dataclass(frozen=True, slots=True)
class Piece:
    """How one tensor is made: rows `rows` (None: all) of its sources laid end to end.

    Where there is an `adapter`, the sources are W, A and B instead, and the rows are those of
    the weight they make. The result is seen in `shape`, () where the sources do not fit, and
    `shift` is added to its values.
    """

    target: str
    sources: tuple[str, ...]
    shape: Shape
    rows: tuple[int, int] | None = None
    adapter: Adapter | None = None
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every key accounted for: what fills the model, what is left out and why, what is wrong.

    `wrong` holds (our key, shape got, shape wanted).
    """

    match: Match
    pieces: tuple[Piece, ...]
    dropped: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong: tuple[tuple[str, Shape, Shape], ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, left over, or of another shape."""
        return not (self.missing or self.unexpected or self.wrong)


def detect(keys: Collection[str], component: str | None = None) -> Match:
    """The one layout whose marks a file carries, by its key set alone.

    Raises LayoutError where there is none (naming the nearest and the keys it cannot
    explain) or more than one, and where it is a layout of another component.
    """
    names = frozenset(keys)
    matches = [
        Match(layout, prefix)
        for layout in LAYOUTS
        for prefix in layout.prefixes
        if all(prefix + mark in names for mark in layout.marks)
    ]
    wanted = f" of {component}" if component else ""
    if len(matches) > 1:
        found = " and ".join(str(match) for match in matches)
        raise LayoutError(
            f"a file holds one component{wanted}", found, "Split the file, or keep one of them"
        )
    if not matches:
        raise _unknown(names, component)
    if component not in (None, matches[0].layout.component):
        raise LayoutError(
            f"this file should hold a component of the kind {component!r}",
            f"{matches[0]} ({matches[0].layout.component})",
            "Put each file into its own component's folder",
        )
    return matches[0]


def recognise(found: Mapping[str, Shape], component: str | None = None) -> Match:
    """`detect`, and the names that only shapes explain.

    Raises LayoutError as `detect` does, and where a layout's provisional names fit no
    tensor of the file, or several.
    """
    match = detect(found, component)
    return _adopted(match, found) if match.layout.provisional else match


def explain(match: Match, found: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> Explanation:
    """Account for every key of a file against the tensors a model wants. Reads no data.

    found: the file's names and shapes. wanted: the model's. Split tensors are cut to the
    rows that the model wants.
    """
    made, _ = rewrite(match, found, wanted)
    pieces = {piece.target: piece for piece in made if piece.target in wanted}
    spare = {
        key: piece.target for piece in made if piece.target not in wanted for key in piece.sources
    }
    used = {key for piece in pieces.values() for key in piece.sources}
    dropped, unexpected = [], []
    for key in found:
        if key in used:
            continue
        reason = _reason(match, key, spare.get(key), wanted)
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


def rewrite(
    match: Match, found: Mapping[str, Shape], wanted: Mapping[str, Shape] | None = None
) -> tuple[tuple[Piece, ...], tuple[str, ...]]:
    """Apply the rules to every name: what can be made, and the names no rule knows.

    A split follows the rows in `wanted`, or is even where that says nothing.
    """
    weights = _weights(match.layout, found)
    groups: dict[tuple[Rule, tuple[tuple[str, str], ...]], dict[int, str]] = {}
    left: list[str] = []
    for key, sources in weights.items():
        hit = _find(match, key)
        if hit is None:
            left.extend(sources)
        else:
            rule, place, words = hit
            groups.setdefault((rule, words), {})[place] = key
    last = max((int(value) for _, words in groups for name, value in words if name == "up"),
               default=0)  # fmt: skip
    pieces: list[Piece] = []
    for (rule, words), keys in groups.items():
        if len(keys) < len(rule.theirs):
            left.extend(source for key in keys.values() for source in weights[key])
            continue
        other = {name: last - int(value) if name == "up" else value for name, value in words}
        targets = tuple(pattern.format(**other) for pattern in rule.ours)
        parts = [weights[keys[place]] for place in range(len(rule.theirs))]
        pieces.extend(_pieces(match, rule, parts, targets, found, wanted or {}))
    return tuple(pieces), tuple(left)


def spellings(layout: Layout, key: str) -> tuple[str, ...]:
    """The names under which a layout's files keep one tensor of ours; none if it knows it not.

    Several are joined along their rows, in this order.
    """
    hit = _find(Match(layout.inverse), key)
    if hit is None:
        return ()
    rule, _, words = hit
    return tuple(pattern.format(**dict(words)) for pattern in rule.ours)


def nearest(key: str, names: Collection[str]) -> str | None:
    """The name most like `key`, if any is."""
    close = get_close_matches(key, names, n=1, cutoff=0.5)
    return close[0] if close else None


def _weights(layout: Layout, found: Mapping[str, Shape]) -> dict[str, tuple[str, ...]]:
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


def _pieces(
    match: Match,
    rule: Rule,
    parts: list[tuple[str, ...]],
    targets: tuple[str, ...],
    found: Mapping[str, Shape],
    wanted: Mapping[str, Shape],
) -> Iterator[Piece]:
    """What one rule makes of whole tensors, each given by its sources."""
    baked = len(parts) == 1 and len(parts[0]) == 3
    adapter = match.adapter if baked else None
    sources = tuple(key for part in parts for key in part)
    whole = _joined([found[part[0]] for part in parts], rule.ones)
    if adapter and not _fits(adapter, targets[0], *(found[key] for key in sources)):
        whole = ()
    if len(targets) == 1 or not whole:
        yield from (
            Piece(target, sources, whole, adapter=adapter, shift=rule.shift) for target in targets
        )
        return
    counts = [wanted[key][0] if wanted.get(key) else 0 for key in targets]
    if sum(counts) != whole[0]:
        counts = [whole[0] // len(targets)] * len(targets)
    start = 0
    for target, count in zip(targets, counts, strict=True):
        rows = (start, start + count)
        yield Piece(target, sources, (count, *whole[1:]), rows, adapter, rule.shift)
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


def is_embedding(target: str) -> bool:
    """Whether a weight of ours, by name, is a table whose rows are looked up."""
    return target.split(".")[-2:-1] in (["word_embeddings"], ["token_type_embeddings"])


def _fits(adapter: Adapter, target: str, weight: Shape, a: Shape, b: Shape) -> bool:
    """Whether an adapter of the file has these factors, and they make a weight of this shape."""
    if len(weight) != 2 or len(a) != 3 or len(b) != 3 or not a[0] == b[0] > adapter.index:
        return False
    left, right = (a, b) if is_embedding(target) else (b, a)
    return left[2] == right[1] and (left[1], right[2]) == weight


def _adopted(match: Match, found: Mapping[str, Shape]) -> Match:
    """The match with the head for the pooled text found by shape, whatever it is called.

    It is a norm (P,), a linear (P, P), and a linear (D, D + P) that takes the time vector and
    the pooled text together; D is the width of the time vector.
    """
    stems: dict[str, dict[str, Shape]] = {}
    for key, shape in found.items():
        hit = _find(match, key)
        known = hit is not None and key.removeprefix(match.prefix) not in match.layout.provisional
        if not known and _reason(match, key, None, ()) is None:
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
    if len(options) != 1:
        raise LayoutError(
            "NewBie's transformer has a norm and two linears for the pooled text",
            f"{len(options) or 'no'} such sets among {_list(sorted(stems))}",
            "Without them it is Lumina 2, which sakuga does not run; use NewBie's file",
        )
    ((norm, linear, both),) = options
    names = (f"{norm}.weight", *(f"{stem}.{leaf}" for stem in (linear, both)
                                 for leaf in ("weight", "bias")))  # fmt: skip
    aliases = tuple(pair for pair in zip(names, match.layout.provisional, strict=True)
                    if pair[0] != pair[1])  # fmt: skip
    return replace(match, aliases=aliases)


def _linear(rows: int, columns: int) -> dict[str, Shape]:
    return {"weight": (rows, columns), "bias": (rows,)}


def _find(match: Match, key: str) -> tuple[Rule, int, tuple[tuple[str, str], ...]] | None:
    """The rule that knows a name, the name's place in it, and what its placeholders held."""
    if not key.startswith(match.prefix):
        return None
    rest = key[len(match.prefix) :]
    rest = dict(match.aliases).get(rest, rest)
    for rule, place, pattern in _compiled(match.layout):
        if hit := pattern.fullmatch(rest):
            return rule, place, tuple(sorted(hit.groupdict().items()))
    return None


@lru_cache(maxsize=32)
def _compiled(layout: Layout) -> tuple[tuple[Rule, int, re.Pattern[str]], ...]:
    return tuple(
        (rule, place, _regex(pattern))
        for rule in layout.rules
        for place, pattern in enumerate(rule.theirs)
    )


@lru_cache(maxsize=1024)
def _regex(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern).replace(r"\*", ".*")
    fill: Callable[[re.Match[str]], str] = lambda hit: f"(?P<{hit[1]}>{WORDS[hit[1]]})"  # noqa: E731
    return re.compile(re.sub(r"\\{(\w+)\\}", fill, text))


def _reason(match: Match, key: str, ours: str | None, wanted: Collection[str]) -> str | None:
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


def _unknown(names: frozenset[str], component: str | None) -> LayoutError:
    """The error for a key set that no layout explains, with the nearest one."""
    rule = "the tensor names of a file tell its layout"
    fix = "Check that this is the file you mean; `sakuga inspect` lists its names"
    ordered = sorted(names)
    some = ordered[:: 1 + len(names) // SAMPLE]
    best, count = _nearest(some, names, component)
    factors = [key for key in some if ADAPTER.search(key)]
    if len(factors) > count:
        got = f"names of an adapter, such as {factors[0]!r}"
        return LayoutError(rule, got, "`sakuga lora show` tells of it, and --lora draws with it")
    if best is None:
        got = f"{len(names)} names to which no layout is near: {_list(ordered)}"
        return LayoutError(rule, got, fix)
    got = f"{len(names)} names that fit none; nearest is {best.layout.name!r}"
    if best.prefix not in best.layout.prefixes:
        known = [each for each in best.layout.prefixes if best.prefix.endswith(each)]
        strange = best.prefix.removesuffix(max(known, key=len, default=""))
        got += f" under the unknown prefix {strange!r}"
        fix = f"Take {strange!r} off its names, and save it again"
    lacking = [best.prefix + mark for mark in best.layout.marks if best.prefix + mark not in names]
    odd = _odd(best, ordered[:MANY])
    wrong = [f"would need {_list(lacking)}"] if lacking else []
    wrong += [f"cannot explain {_list(odd)}"] if odd else []
    return LayoutError(rule, ", which ".join(filter(None, (got, " and ".join(wrong)))), fix)


def _nearest(
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
        hits = [ends.fullmatch(name) for name in _weights(layout, dict.fromkeys(some, ()))]
        for prefix, count in Counter(hit[1] for hit in hits if hit).most_common(4):
            marks = sum(prefix + mark in names for mark in layout.marks)
            known = prefix in layout.prefixes
            rank = count, marks, known
            if rank > most and (known or marks or 2 * count >= len(some)):
                best, most = Match(layout, prefix), rank
    return best, most[0]


@lru_cache(maxsize=32)
def _ends(layout: Layout) -> re.Pattern[str]:
    """A pattern of every name that ends as one of a layout does, whatever it begins with."""
    known = (re.sub(r"\?P<\w+>", "?:", each.pattern) for _, _, each in _compiled(layout))
    return re.compile(rf"((?:.*?[._])?)(?:{'|'.join(known)})")


def _odd(match: Match, names: Collection[str]) -> list[str]:
    return [
        key
        for name, sources in _weights(match.layout, dict.fromkeys(names, ())).items()
        if _find(match, name) is None
        for key in sources
        if _reason(match, key, None, ()) is None
    ]


def _list(keys: Collection[str]) -> str:
    shown = ", ".join(repr(key) for key in list(keys)[:5])
    return (shown or "nothing") + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")


def _same(*patterns: str) -> tuple[Rule, ...]:
    return tuple(Rule((pattern,), (pattern,)) for pattern in patterns)


def _renamed(pairs: Mapping[str, str], ones: int = 0) -> tuple[Rule, ...]:
    return tuple(Rule((theirs,), (ours,), ones) for theirs, ours in pairs.items())


def _wrapped(*prefixes: str) -> tuple[str, ...]:
    """The prefixes, also as they are where a file keeps all under another name."""
    return tuple(dict.fromkeys(first + prefix for first in ("", *WRAPPERS) for prefix in prefixes))


NEXTDIT_ORIGINAL = Layout(
    name="NextDiT, original names",
    component="transformer",
    marks=(
        "x_embedder.weight",
        "cap_embedder.1.weight",
        "noise_refiner.0.attention.k_norm.weight",
        "layers.0.attention.qkv.weight",
        "clip_text_pooled_proj.0.weight",  # without the pooled branch it is Lumina 2
    ),
    prefixes=_wrapped("", "model.diffusion_model.", "diffusion_model."),
    rules=_same(
        "x_embedder.{p}",
        "cap_embedder.{n}.{p}",
        "t_embedder.mlp.{n}.{p}",
        "clip_text_pooled_proj.{n}.{p}",
        "time_text_embed.1.{p}",
        "{stack}.{n}.attention.qkv.weight",
        "{stack}.{n}.attention.out.weight",
        "{stack}.{n}.attention.q_norm.weight",
        "{stack}.{n}.attention.k_norm.weight",
        "{stack}.{n}.attention_norm{m}.weight",
        "{stack}.{n}.ffn_norm{m}.weight",
        "{stack}.{n}.feed_forward.{w}.weight",
        "{refined}.{n}.adaLN_modulation.1.{p}",
        "norm_final.weight",
        "final_layer.linear.{p}",
        "final_layer.adaLN_modulation.1.{p}",
    ),
    drops=(Drop("norm_final.weight", "stored by the original, read by nothing", spare=True),),
)

NEXTDIT_DIFFUSERS = Layout(
    name="NextDiT, diffusers names",
    component="transformer",
    marks=(
        "x_embedder.weight",
        "time_caption_embed.caption_embedder.1.weight",
        "noise_refiner.0.attn.norm_k.weight",
        "layers.0.attn.to_q.weight",
    ),
    prefixes=_wrapped("", "transformer."),
    rules=(
        Rule(
            (
                "{stack}.{n}.attn.to_q.weight",
                "{stack}.{n}.attn.to_k.weight",
                "{stack}.{n}.attn.to_v.weight",
            ),
            ("{stack}.{n}.attention.qkv.weight",),
        ),
        *_renamed(
            {
                "{stack}.{n}.attn.to_out.0.weight": "{stack}.{n}.attention.out.weight",
                "{stack}.{n}.attn.norm_q.weight": "{stack}.{n}.attention.q_norm.weight",
                "{stack}.{n}.attn.norm_k.weight": "{stack}.{n}.attention.k_norm.weight",
                "{stack}.{n}.feed_forward.linear_{m}.weight": (
                    "{stack}.{n}.feed_forward.w{m}.weight"
                ),
                "{refined}.{n}.norm1.norm.weight": "{refined}.{n}.attention_norm1.weight",
                "{refined}.{n}.norm1.linear.{p}": "{refined}.{n}.adaLN_modulation.1.{p}",
                "context_refiner.{n}.norm1.weight": "context_refiner.{n}.attention_norm1.weight",
                "{stack}.{n}.norm2.weight": "{stack}.{n}.attention_norm2.weight",
                "time_caption_embed.timestep_embedder.linear_1.{p}": "t_embedder.mlp.0.{p}",
                "time_caption_embed.timestep_embedder.linear_2.{p}": "t_embedder.mlp.2.{p}",
                "time_caption_embed.caption_embedder.{n}.{p}": "cap_embedder.{n}.{p}",
                "norm_out.linear_1.{p}": "final_layer.adaLN_modulation.1.{p}",
                "norm_out.linear_2.{p}": "final_layer.linear.{p}",
            }
        ),
        *_same(
            "x_embedder.{p}",
            "{stack}.{n}.ffn_norm{m}.weight",
            "clip_text_pooled_proj.{n}.{p}",
            "time_text_embed.1.{p}",
        ),
    ),
    provisional=(
        "clip_text_pooled_proj.0.weight",
        "clip_text_pooled_proj.1.weight",
        "clip_text_pooled_proj.1.bias",
        "time_text_embed.1.weight",
        "time_text_embed.1.bias",
    ),
)

GEMMA_UNRUN = (
    Drop("layers.{beyond}.*", "conditioning is the state before the last layer", spare=True),
    Drop("norm.weight", "the final norm follows the last layer, which is not run", spare=True),
)

GEMMA = Layout(
    name="Gemma 3, transformers names",
    component="text_encoder",
    marks=(
        "embed_tokens.weight",
        "layers.0.self_attn.q_norm.weight",
        "layers.0.pre_feedforward_layernorm.weight",
    ),
    prefixes=_wrapped(
        "language_model.model.", "model.language_model.", "language_model.", "model.", ""
    ),
    rules=_same(
        "embed_tokens.weight",
        "norm.weight",
        "layers.{n}.self_attn.q_proj.weight",
        "layers.{n}.self_attn.k_proj.weight",
        "layers.{n}.self_attn.v_proj.weight",
        "layers.{n}.self_attn.o_proj.weight",
        "layers.{n}.self_attn.q_norm.weight",
        "layers.{n}.self_attn.k_norm.weight",
        "layers.{n}.mlp.gate_proj.weight",
        "layers.{n}.mlp.up_proj.weight",
        "layers.{n}.mlp.down_proj.weight",
        "layers.{n}.input_layernorm.weight",
        "layers.{n}.post_attention_layernorm.weight",
        "layers.{n}.pre_feedforward_layernorm.weight",
        "layers.{n}.post_feedforward_layernorm.weight",
    ),
    drops=(
        *(
            Drop(pattern, "prompts are text; pictures are never read")
            for pattern in (
                "*vision_tower.*",
                "*vision_model.*",
                "*multi_modal_projector.*",
            )
        ),
        Drop("*lm_head.weight", "nothing is generated"),
        Drop("*rotary_emb.*inv_freq", "rotary frequencies are computed"),
        Drop("*spiece_model", "it is the tokenizer, no weight"),
        *GEMMA_UNRUN,
    ),
)

GEMMA_GGUF = Layout(
    name="Gemma 3, llama.cpp names",
    component="text_encoder",
    marks=(
        "token_embd.weight",
        "blk.0.attn_q_norm.weight",
        "blk.0.post_ffw_norm.weight",
    ),
    rules=(
        *_renamed(
            {
                "token_embd.weight": "embed_tokens.weight",
                "blk.{n}.attn_q.weight": "layers.{n}.self_attn.q_proj.weight",
                "blk.{n}.attn_k.weight": "layers.{n}.self_attn.k_proj.weight",
                "blk.{n}.attn_v.weight": "layers.{n}.self_attn.v_proj.weight",
                "blk.{n}.attn_output.weight": "layers.{n}.self_attn.o_proj.weight",
                "blk.{n}.ffn_gate.weight": "layers.{n}.mlp.gate_proj.weight",
                "blk.{n}.ffn_up.weight": "layers.{n}.mlp.up_proj.weight",
                "blk.{n}.ffn_down.weight": "layers.{n}.mlp.down_proj.weight",
            }
        ),
        # Gemma scales by 1 + weight; llama.cpp stores the sum, so that it may scale by it.
        *(
            Rule((theirs,), (ours,), shift=-1.0)
            for theirs, ours in {
                "output_norm.weight": "norm.weight",
                "blk.{n}.attn_q_norm.weight": "layers.{n}.self_attn.q_norm.weight",
                "blk.{n}.attn_k_norm.weight": "layers.{n}.self_attn.k_norm.weight",
                "blk.{n}.attn_norm.weight": "layers.{n}.input_layernorm.weight",
                "blk.{n}.post_attention_norm.weight": "layers.{n}.post_attention_layernorm.weight",
                "blk.{n}.ffn_norm.weight": "layers.{n}.pre_feedforward_layernorm.weight",
                "blk.{n}.post_ffw_norm.weight": "layers.{n}.post_feedforward_layernorm.weight",
            }.items()
        ),
    ),
    drops=(
        Drop("output.weight", "nothing is generated"),
        Drop("rope_freqs.weight", "rotary frequencies are computed"),
        *GEMMA_UNRUN,
    ),
)

JINA_DROPS = (
    Drop("*lm_head.*", "nothing is generated"),
    Drop("*vision_model.*", "prompts are text; pictures are never read"),
    Drop("*logit_scale", "no picture is compared with a text"),
    Drop("*rotary_emb.*inv_freq", "rotary frequencies are computed"),
    Drop("*embeddings.position_ids", "positions are counted"),
    Drop("*spiece_model", "it is the tokenizer, no weight"),
    Drop("pooler.dense.{p}", "the pooled vector is the mean over tokens", spare=True),
)

JINA_TRANSFORMERS = Layout(
    name="Jina, transformers names",
    component="text_encoder_2",
    marks=(
        "embeddings.word_embeddings.weight",
        "embeddings.LayerNorm.weight",
        "layers.0.self_attn.q_proj.weight",
        "layers.0.post_mlp_layernorm.weight",
    ),
    prefixes=_wrapped("", "roberta."),
    rules=_same(
        "embeddings.word_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "embeddings.LayerNorm.{p}",
        "layers.{n}.self_attn.q_proj.{p}",
        "layers.{n}.self_attn.k_proj.{p}",
        "layers.{n}.self_attn.v_proj.{p}",
        "layers.{n}.self_attn.o_proj.{p}",
        "layers.{n}.post_attention_layernorm.{p}",
        "layers.{n}.mlp.fc1.{p}",
        "layers.{n}.mlp.fc2.{p}",
        "layers.{n}.post_mlp_layernorm.{p}",
        "pooler.dense.{p}",
    ),
    drops=JINA_DROPS,
)

JINA_SINGLE_FILE = Layout(
    name="Jina, single-file names",
    component="text_encoder_2",
    marks=(
        "embeddings.word_embeddings.weight",
        "emb_ln.weight",
        "encoder.layers.0.mixer.Wqkv.weight",
    ),
    prefixes=_wrapped("model.", ""),
    rules=(
        Rule(
            ("encoder.layers.{n}.mixer.Wqkv.{p}",),
            (
                "layers.{n}.self_attn.q_proj.{p}",
                "layers.{n}.self_attn.k_proj.{p}",
                "layers.{n}.self_attn.v_proj.{p}",
            ),
        ),
        *_same(
            "embeddings.word_embeddings.weight",
            "embeddings.token_type_embeddings.weight",
            "pooler.dense.{p}",
        ),
        *_renamed(
            {
                "emb_ln.{p}": "embeddings.LayerNorm.{p}",
                "encoder.layers.{n}.mixer.out_proj.{p}": "layers.{n}.self_attn.o_proj.{p}",
                "encoder.layers.{n}.norm1.{p}": "layers.{n}.post_attention_layernorm.{p}",
                "encoder.layers.{n}.mlp.fc1.{p}": "layers.{n}.mlp.fc1.{p}",
                "encoder.layers.{n}.mlp.fc2.{p}": "layers.{n}.mlp.fc2.{p}",
                "encoder.layers.{n}.norm2.{p}": "layers.{n}.post_mlp_layernorm.{p}",
            }
        ),
    ),
    drops=JINA_DROPS,
)

JINA_OFFICIAL = replace(
    JINA_SINGLE_FILE,
    name="Jina, official names",
    marks=("emb_ln.weight", "encoder.layers.0.norm1.weight", "encoder.layers.0.mixer.Wqkv.bias"),
    prefixes=_wrapped("text_model.transformer.roberta.", "text_model.transformer.", "roberta."),
    baked=True,
)

VAE_DIFFUSERS = Layout(
    name="FLUX autoencoder, diffusers names",
    component="vae",
    marks=(
        "encoder.conv_in.weight",
        "decoder.conv_in.weight",
        "decoder.mid_block.attentions.0.to_q.weight",
        "decoder.up_blocks.0.resnets.0.conv1.weight",
    ),
    prefixes=_wrapped("", "vae."),
    rules=_same(
        "{side}.{end}.{p}",
        "{side}.{blocks}.{n}.resnets.{m}.{resnet}.{p}",
        "{side}.{blocks}.{n}.{scale}.0.conv.{p}",
        "{side}.mid_block.resnets.{n}.{resnet}.{p}",
        "{side}.mid_block.attentions.0.{attn}.{p}",
    ),
)

VAE_BFL = Layout(
    name="FLUX autoencoder, original names",
    component="vae",
    marks=(
        "encoder.conv_in.weight",
        "decoder.conv_in.weight",
        "decoder.mid.attn_1.q.weight",
        "decoder.up.0.block.0.conv1.weight",
    ),
    prefixes=_wrapped("", "first_stage_model.", "vae."),
    rules=(
        *_same("{side}.conv_in.{p}", "{side}.conv_out.{p}"),
        *_renamed(
            {
                "{side}.norm_out.{p}": "{side}.conv_norm_out.{p}",
                "encoder.down.{n}.block.{m}.{inner}.{p}": (
                    "encoder.down_blocks.{n}.resnets.{m}.{inner}.{p}"
                ),
                "encoder.down.{n}.block.{m}.nin_shortcut.{p}": (
                    "encoder.down_blocks.{n}.resnets.{m}.conv_shortcut.{p}"
                ),
                "encoder.down.{n}.downsample.conv.{p}": (
                    "encoder.down_blocks.{n}.downsamplers.0.conv.{p}"
                ),
                "decoder.up.{up}.block.{m}.{inner}.{p}": (
                    "decoder.up_blocks.{up}.resnets.{m}.{inner}.{p}"
                ),
                "decoder.up.{up}.block.{m}.nin_shortcut.{p}": (
                    "decoder.up_blocks.{up}.resnets.{m}.conv_shortcut.{p}"
                ),
                "decoder.up.{up}.upsample.conv.{p}": (
                    "decoder.up_blocks.{up}.upsamplers.0.conv.{p}"
                ),
                "{side}.mid.block_1.{inner}.{p}": "{side}.mid_block.resnets.0.{inner}.{p}",
                "{side}.mid.block_2.{inner}.{p}": "{side}.mid_block.resnets.1.{inner}.{p}",
                "{side}.mid.attn_1.norm.{p}": "{side}.mid_block.attentions.0.group_norm.{p}",
                "{side}.mid.attn_1.{qkv}.bias": "{side}.mid_block.attentions.0.to_{qkv}.bias",
                "{side}.mid.attn_1.proj_out.bias": "{side}.mid_block.attentions.0.to_out.0.bias",
            }
        ),
        *_renamed(
            {
                "{side}.mid.attn_1.{qkv}.weight": "{side}.mid_block.attentions.0.to_{qkv}.weight",
                "{side}.mid.attn_1.proj_out.weight": (
                    "{side}.mid_block.attentions.0.to_out.0.weight"
                ),
            },
            ones=2,
        ),
    ),
)

LAYOUTS = (
    NEXTDIT_ORIGINAL,
    NEXTDIT_DIFFUSERS,
    GEMMA,
    GEMMA_GGUF,
    JINA_TRANSFORMERS,
    JINA_SINGLE_FILE,
    JINA_OFFICIAL,
    VAE_DIFFUSERS,
    VAE_BFL,
)
