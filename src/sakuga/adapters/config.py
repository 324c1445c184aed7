"""What is said of all factors of an adapter at once, by PEFT's config or by metadata."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sakuga.errors import CorruptFile, LayoutError
from sakuga.weights.store import Store
from sakuga.weights.untrusted import parse_json, read_json

CONFIG = "adapter_config.json"
PEFT_PREFIX = "base_model.model."
ASSUMED = "assumed: as large as the rank"
METADATA = "the metadata of the file"
ALPHAS = ("lora_alpha", "network_alpha", "ss_network_alpha")
DIFFUSERS_CONFIG = "lora_adapter_metadata"  # PEFT's config as JSON, each name after "transformer."

# The kinds of `adapters.kinds` whose alpha and rank a config of each peft_type says.
SPOKEN: Mapping[str, tuple[str, ...]] = {
    "LORA": ("lora", "dora", "lora-bias"),
    "LYCORIS": ("lora", "dora"),
    "LOKR": ("lokr",),
    "LOHA": ("loha",),
    "OFT": (),
}
CAYLEY_TERMS = 5  # PEFT's default
MAX_TERMS = 64

MAX_DEPTH = 32
MAX_NAME = 300  # characters of a module's name; longer ones are no module's
MAX_EXPRESSIONS = 64  # and any number of plain names
MAX_STEPS = 50_000_000  # of matching, a fraction of a second
PLAIN = re.compile(r"\^?[\w.-]+\$?", re.ASCII)
EXPRESSION = re.compile(
    r"\^?(?:(?:[\w-]|\.|\\[.d]|\[[\w-]+\])[*+?]?|\((?:[\w-]+\|)*[\w-]+\)){1,200}\$?", re.ASCII
)
REPEATS = re.compile(r"[*+?(]")  # what may be tried in many ways


@dataclass(frozen=True, slots=True)
class Expression:
    """A value for the modules whose name, or the end of it after a dot, matches.

    place: among all that a config says, of which the first counts. whole: no end will do.
    """

    place: int
    value: float
    regex: re.Pattern[str]
    whole: bool


@dataclass(frozen=True, slots=True)
class Patterns:
    """Values for modules by their names. The first in the file that covers a module counts.

    PEFT runs all of them as regular expressions. Those from a file may take forever, so few
    forms are run: letters, digits, `_`, `-`, `.`, `\\.`, `\\d`, `[...]` and `(a|b)`, of which
    two may repeat or choose. names: place and value of those that are plain names, as most
    are: they are looked up, by the end of a module's name, or after a `^` by all of it.
    """

    names: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    expressions: tuple[Expression, ...] = ()

    def of(self, stem: str, other: float | None) -> float | None:
        """The value for a module, by its name in a file; else `other`."""
        name = stem.removeprefix(PEFT_PREFIX)
        if len(name) > MAX_NAME:
            return other
        starts = _starts(name)
        ends = ("^" + name, *(name[start:] for start in starts))
        found = [self.names[end] for end in ends if end in self.names]
        for one in self.expressions:
            here = starts[:1] if one.whole else starts
            if any(one.regex.fullmatch(name, start) for start in here):
                found.append((one.place, one.value))
                break
        return min(found)[1] if found else other

    def steps(self, stems: Iterable[str]) -> int:
        """At most so many steps it takes to match all expressions with all of these modules.

        What repeats or chooses may try as many ways as a name's rest has letters.
        """
        repeats = Counter(len(REPEATS.findall(one.regex.pattern)) for one in self.expressions)
        if not repeats:
            return 0
        names = (stem.removeprefix(PEFT_PREFIX) for stem in stems)
        rests = Counter(len(name) - start for name in names for start in _starts(name)
                        if len(name) <= MAX_NAME)  # fmt: skip
        return sum(
            often * count * rest ** (times + 1)
            for rest, often in rests.items()
            for times, count in repeats.items()
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """What is said of all parts at once: by the user, a config, or the file's metadata.

    alphas, ranks: for some modules; the first that covers one counts. peft_type: of PEFT's
    config, which says what kind of change it speaks of. terms: of the series that stands for the
    rotations of an OFT, 0 for the exact ones.
    """

    alpha: float | None = None
    alpha_from: str = ASSUMED
    rank: int | None = None
    alphas: Patterns = Patterns()
    ranks: Patterns = Patterns()
    root: bool = False
    peft_type: str = "LORA"
    terms: int = CAYLEY_TERMS

    @property
    def lycoris(self) -> bool:
        """Whether what it speaks of was trained by LyCORIS."""
        return self.peft_type == "LYCORIS"

    def speaks_of(self, kind: str) -> bool:
        """Whether its alpha and rank are those of a kind's factors.

        Of a LoKr or LoHa, LyCORIS' config and metadata repeat what the trainer was started with,
        often a huge number that asks for whole factors, and not the alpha of these factors.
        """
        return kind in SPOKEN.get(self.peft_type, ())

    def alpha_of(self, stem: str) -> float | None:
        """The alpha of one module, by its name in the file; None where nothing says."""
        return self.alphas.of(stem, self.alpha)

    def rank_of(self, stem: str) -> float | None:
        """The rank that a config says one module's factors have; None where it says nothing."""
        return self.ranks.of(stem, self.rank)


def check_steps(settings: Settings, stems: Collection[str], where: str) -> None:
    """Raise CorruptFile where expressions of a config would take long to match."""
    steps = max(settings.alphas.steps(stems), settings.ranks.steps(stems))
    if steps > MAX_STEPS:
        raise _bad_config(f"expressions that take {steps:,} steps for {len(stems)} modules {where}")


def _starts(name: str) -> tuple[int, ...]:
    """Where a module's name begins, and every part of it after a dot."""
    return (0, *(dot.end() for dot in re.finditer(r"\.", name)))


def settings_of(store: Store, config_file: Path | None, *, given: bool = False) -> Settings:
    """What is said of all parts, by the config or else by the metadata.

    given: the user says what alpha is, so that nothing else that is said of it is looked at.
    """
    if config_file is not None:
        config = read_json(config_file, config_file.parent)
        return _config_settings(config, str(config_file), CONFIG, given=given)
    if DIFFUSERS_CONFIG in store.metadata:
        source = f"{DIFFUSERS_CONFIG} of {store.path}"
        data = store.metadata[DIFFUSERS_CONFIG].encode("utf-8", "surrogatepass")
        named = parse_json(data, source)
        config = {key.removeprefix("transformer."): value for key, value in named.items()}
        return _config_settings({"peft_type": "LORA", **config}, source, METADATA, given=given)
    for name in () if given else ALPHAS:
        text = store.metadata.get(name, "None")
        if text != "None":
            root = store.metadata.get("use_rslora", "").lower() == "true"
            alpha = positive(_float(text), text, f"{name} of {store.path}")
            return Settings(alpha, METADATA, root=root)
    return Settings()


def _config_settings(
    config: Mapping[str, Any], where: str, source: str, *, given: bool
) -> Settings:
    """What PEFT's config says. Its other entries are about training, and not looked at."""
    _refuse_traversal(config, where)
    kind = config.get("peft_type")
    refused = [name for name in ("fan_in_fan_out", "coft") if config.get(name)]
    if not isinstance(kind, str) or kind not in SPOKEN or refused:
        told = {key: config.get(key) for key in ("peft_type", *refused)}
        raise LayoutError(
            f"an {CONFIG} is of peft_type {', '.join(SPOKEN)}, without swapped sides or limits",
            f"{short_json(told)} in {where}",
            "Merge it with the program that trained it, and use the merged model",
        )
    name = "alpha" if kind in ("LOKR", "LOHA") else "lora_alpha"
    alpha = None if given else config.get(name)
    known = None if alpha is None else positive(alpha, alpha, f"{name} of {where}")
    if kind == "LYCORIS":  # its rank is what was asked of the trainer, not what became of it
        return Settings(known, source, peft_type=kind)
    rank = config.get("r")
    least = 0 if kind == "OFT" else 1  # an OFT has one of r and oft_block_size
    if rank is not None and (type(rank) is not int or not least <= rank < 2**31):
        raise _bad_config(f"r {short_json(rank)}, which is no rank, in {where}")
    return Settings(
        known,
        source,
        rank,
        Patterns() if given else _patterns(config, "alpha_pattern", where),
        _patterns(config, "rank_pattern", where),
        config.get("use_rslora") is True,
        kind,
        _terms(config, where),
    )


def _terms(config: Mapping[str, Any], where: str) -> int:
    """How many terms of a series stand for an OFT's rotations; 0 where they are exact."""
    if config.get("use_cayley_neumann") is False:
        return 0
    terms = config.get("num_cayley_neumann_terms", CAYLEY_TERMS)
    if type(terms) is not int or not 0 < terms <= MAX_TERMS:
        raise _bad_config(f"num_cayley_neumann_terms {short_json(terms)} in {where}")
    return terms


def _refuse_traversal(config: Mapping[str, Any], where: str) -> None:
    """Refuse a config that names a path outside its folder, though no such path is ever opened."""
    level: list[Any] = [config]
    for _ in range(MAX_DEPTH):
        texts = [value for value in level if isinstance(value, str)]
        for text in texts:
            if ".." in text.replace("\\", "/").split("/"):
                raise _bad_config(f"the path {short_json(text)}, which leads out, in {where}")
        objects = [value for value in level if isinstance(value, dict)]
        level = [each for value in level if isinstance(value, list) for each in value]
        level += [each for value in objects for pair in value.items() for each in pair]
        if not level:
            return
    raise _bad_config(f"more than {MAX_DEPTH} levels in {where}")


def _patterns(config: Mapping[str, Any], name: str, where: str) -> Patterns:
    given = config.get(name) or {}
    if not isinstance(given, dict):
        raise _bad_config(f"{name} {short_json(given)} in {where}")
    names, expressions = {}, []
    for place, (key, said) in enumerate(given.items()):
        value = positive(said, said, f"{name} of {where}")
        if PLAIN.fullmatch(key):
            names[key.removesuffix("$")] = place, value
        else:
            regex = _expression(key, f"{name} of {where}")
            expressions.append(Expression(place, value, regex, key.startswith("^")))
    if len(expressions) > MAX_EXPRESSIONS:
        raise _bad_config(f"more than {MAX_EXPRESSIONS} expressions as {name} in {where}")
    return Patterns(names, tuple(expressions))


def _expression(key: str, where: str) -> re.Pattern[str]:
    """What is run of a pattern. Raises CorruptFile where it is of no form that is."""
    if len(key) <= MAX_NAME and EXPRESSION.fullmatch(key) and len(REPEATS.findall(key)) <= 2:
        with contextlib.suppress(re.error):  # a range that runs backwards
            return re.compile(key.removeprefix("^").removesuffix("$"))
    raise _bad_config(f"{short_json(key)}, which names no modules, in the {where}")


def positive(value: object, got: object, where: str) -> float:
    """An alpha or a rank, checked. Raises CorruptFile, which says `got` and where it was."""
    if isinstance(value, int | float) and type(value) is not bool and 0 < value < math.inf:
        return float(value)
    raise CorruptFile(
        "an alpha or a rank is a finite number above 0",
        f"{short_json(got)} as {where}",
        "Give it by hand: --lora FILE:1:alpha=4",
    )


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _bad_config(got: str) -> CorruptFile:
    return CorruptFile(
        f"an {CONFIG} says of an adapter what PEFT writes there",
        got,
        "Correct the entry, or give the .safetensors file alone with its alpha",
    )


def short_json(value: object) -> str:
    """A value from a file, escaped and short enough for a message."""
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    return repr(text) if len(text) <= 80 else repr(text[:77] + "...")
