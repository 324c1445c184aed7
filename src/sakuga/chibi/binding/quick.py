"""A fixed few pictures whose verdicts are kept: the same weights must give the same verdicts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sakuga.checkpoint.save import write_json
from sakuga.chibi.binding.rows import Row, all_rows

FILE = Path(__file__).parent / "verdicts.json"
PICTURES = 4  # of each row
LEAST = 0.97  # of all verdicts on atoms must be those that are kept
_NAMES = (
    "said: XML, 2 said", "said: XML, 8 said", "said: XML, shuffled, 8 said",
    "said: flat, 2 said", "said: flat, 2 said, as typed", "said: flat, spaces, shuffled, 4 said",
    "said: prose, English, 3 said", "said: prose, Japanese, 3 said",
    "said: XML, caption in Chinese, 5 said", "said: flat, 50% unknown, 4 said",
    "who: XML, 8 atoms each, 2 people", "who: XML, 8 atoms each, 4 people",
    "who: XML, 8 atoms each, 3 people, per character", "who: look-alikes, 3 people",
    "who: places, 3 people", "where: XML, 8 atoms each, 1 people, 192x192",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The verdicts of each row, in words of 1 and 0, and the digest of the weights they are of."""

    weights: str
    rows: Mapping[str, list[str]]

    @classmethod
    def open(cls) -> Verdicts:
        """Those that ship with the package."""
        return cls(**json.loads(FILE.read_text(encoding="utf-8")))

    def write(self, file: Path = FILE) -> None:
        """Make these the ones that ship, or keep them elsewhere."""
        write_json(file, asdict(self))


def quick_rows() -> tuple[Row, ...]:
    """The rows of the few pictures."""
    named = {row.name: row for row in all_rows()}
    return tuple(named[name] for name in _NAMES)


def digest(folder: Path) -> str:
    """What tells the weights of one model from those of another."""
    told = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        told.update(file.read_bytes())
    return told.hexdigest()[:16]


def same_share(kept: Mapping[str, Iterable[str]], found: Mapping[str, Iterable[str]]) -> float:
    """The share of verdicts, atom by atom, that are those that are kept."""
    same = of = 0
    for name, codes in kept.items():
        for code, other in zip(codes, found.get(name, ()), strict=False):
            pairs = list(zip(code.replace(" ", ""), other.replace(" ", ""), strict=False))
            same += sum(one == two for one, two in pairs)
            of += len(pairs)
    return same / of if of else 0.0
