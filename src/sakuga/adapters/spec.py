"""An adapter as one asks for it: FILE[:STRENGTH][:alpha=NUMBER][:BLOCKS=FACTOR]...

    style                            the folder `style`, at strength 1
    style.safetensors:0.8            at strength 0.8
    style:0.8:alpha=4                its scale is 4 / rank, whatever the file says of alpha
    style:0.8:layers.0-11=0.5        in the first twelve layers at strength 0.4
    style:layers=0:layers.30-35=1    in the last six layers alone

BLOCKS is the beginning of a module's name, part by part: a name, a number, a range of
numbers, or * for any. Of several that cover a module the last one counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sakuga.errors import RequestError

SYNTAX = "FILE[:STRENGTH][:alpha=NUMBER][:BLOCKS=FACTOR]..."
MAX_STRENGTH = 100.0
MAX_OPTIONS = 64

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_PART = r"(?:\*|[A-Za-z_][A-Za-z0-9_]{0,63}|[0-9]{1,6}(?:-[0-9]{1,6})?)"
_BLOCKS = re.compile(rf"{_PART}(?:\.{_PART}){{0,15}}")
_RANGE = re.compile(r"([0-9]+)-([0-9]+)")


@dataclass(frozen=True, slots=True)
class BlockFactor:
    """A factor on an adapter's strength in the modules whose names begin with `blocks`."""

    blocks: str
    factor: float

    def __str__(self) -> str:
        return f"{self.blocks}={_text(self.factor)}"

    def covers(self, module: str) -> bool:
        """Whether a module, by its full name, is one of these."""
        parts, names = self.blocks.split("."), module.split(".")
        return len(parts) <= len(names) and all(map(_is_one_of, names, parts))


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """An adapter's file or folder, and how strongly it is applied.

    alpha: what its alpha is taken to be, whatever the file says; None leaves it to the file.
    """

    path: Path
    strength: float = 1.0
    alpha: float | None = None
    blocks: tuple[BlockFactor, ...] = ()

    def strength_of(self, module: str) -> float:
        """The strength in one module, by its full name."""
        factors = [each.factor for each in self.blocks if each.covers(module)]
        return self.strength * (factors[-1] if factors else 1.0)

    def __str__(self) -> str:
        """The spec as `parse_adapter` reads it."""
        alpha = () if self.alpha is None else (f"alpha={_text(self.alpha)}",)
        return ":".join((str(self.path), _text(self.strength), *alpha, *map(str, self.blocks)))


def parse_adapter(text: str) -> AdapterSpec:
    """Read FILE[:STRENGTH][:alpha=NUMBER][:BLOCKS=FACTOR]... Raises RequestError.

    Strengths and factors lie between -100 and 100; alpha is above 0.
    """
    drive = _DRIVE.match(text)
    start = drive.end() if drive else 0
    head, *options = text[start:].split(":")
    path = text[:start] + head
    if not path or "\0" in path or len(options) > MAX_OPTIONS:
        raise _refused(text, repr(text[:200]))
    strength = 1.0
    if options and "=" not in options[0]:
        strength = _strength(text, options.pop(0))
    alpha: float | None = None
    blocks: list[BlockFactor] = []
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise _refused(text, f"{option!r} after the strength")
        if name == "alpha":
            alpha = _number(text, value)
            if not alpha > 0:
                raise _refused(text, f"alpha {value!r}, which is not above 0")
        else:
            blocks.append(BlockFactor(_blocks(text, name), _strength(text, value)))
    return AdapterSpec(Path(path), strength, alpha, tuple(blocks))


def parse_adapters(texts: Sequence[str]) -> tuple[AdapterSpec, ...]:
    """Read several, in the order in which they are applied. Raises RequestError."""
    return tuple(map(parse_adapter, texts))


def _is_one_of(name: str, part: str) -> bool:
    """Whether one part of a name is what one part of BLOCKS says."""
    if limits := _RANGE.fullmatch(part):
        return name.isdecimal() and int(limits[1]) <= int(name) <= int(limits[2])
    return part in ("*", name)


def _blocks(text: str, name: str) -> str:
    if not _BLOCKS.fullmatch(name):
        raise _refused(text, f"the blocks {name!r}")
    for limits in map(_RANGE.fullmatch, name.split(".")):
        if limits and int(limits[1]) > int(limits[2]):
            raise _refused(text, f"the range {limits[0]!r}, which is empty")
    return name


def _strength(text: str, value: str) -> float:
    number = _number(text, value)
    if abs(number) > MAX_STRENGTH:
        raise _refused(text, f"{value!r}, which is not within {MAX_STRENGTH:g}")
    return number


def _number(text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _refused(text, f"{value[:40]!r} where a number belongs")
    return number


def _text(number: float) -> str:
    """The shortest text that reads back as this number."""
    return repr(number).removesuffix(".0")


def _refused(text: str, got: str) -> RequestError:
    return RequestError(
        f"an adapter is given as {SYNTAX}",
        f"{got} in {text[:200]!r}",
        "Write style.safetensors:0.8, or style:0.8:layers.0-11=0.5.",
    )
