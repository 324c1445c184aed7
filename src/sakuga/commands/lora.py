"""The `lora` commands behind their flags: what an adapter is, and what it would change."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sakuga.adapters.file import Adapter, AdapterPart, read_adapter
from sakuga.adapters.fit import Change, Fit, assumption, fit, remarks, transformer_targets
from sakuga.adapters.kinds import BY_NAME
from sakuga.adapters.spec import parse_adapter
from sakuga.checkpoint.catalog import ELSEWHERE, locate
from sakuga.checkpoint.folder import Component, open_component
from sakuga.errors import BindError
from sakuga.model.spec import PRESETS, NextDiTSpec
from sakuga.printable import columns, listed
from sakuga.printable import shown as printable
from sakuga.weights.untrusted import reading

COLUMNS = ("modules", "kind", "shape", "rank", "alpha", "scale")


@dataclass(frozen=True, slots=True)
class Shown:
    """An adapter looked at: its file, how it fits a model if one was named, or why not."""

    adapter: Adapter
    model: str | None = None
    fit: Fit | None = None
    problem: str = ""

    @property
    def fits(self) -> bool:
        """Whether everything in the file changes the model, or no model was named."""
        return self.model is None or (self.fit is not None and not self.fit.unmatched)


def open_transformer(model: str) -> Component:
    """The transformer of a model by name or folder, or in a file or folder of its own.

    Raises ModelNotFound, CorruptFile, LayoutError or SpecMismatch.
    """
    with reading(Path(model)):
        lone = Path(model).is_file()
    if lone:
        return open_component(Path(model), "transformer")
    folder = locate(model)
    inner = folder / "transformer"
    return open_component(inner if inner.is_dir() else folder, "transformer", folder)


def transformer_spec(model: str) -> NextDiTSpec:
    """What the transformer of a model is; one known by name need not be on this machine."""
    if model in ELSEWHERE and not Path(model).exists():
        return PRESETS[model].transformer
    spec: NextDiTSpec = open_transformer(model).spec
    return spec


def read_shown(text: str, model: str | None) -> Shown:
    """Open an adapter as `--lora` names it, and hold it against a model if one is named."""
    adapter = read_adapter(parse_adapter(text))
    if model is None:
        return Shown(adapter)
    try:
        targets = transformer_targets(transformer_spec(model))
        return Shown(adapter, model, fit(adapter, targets, partial=True))
    except BindError as error:
        return Shown(adapter, model, None, str(error))


def describe_adapter(shown: Shown) -> Iterator[str]:
    """What was seen, as lines for people."""
    yield from map(printable, _lines(shown))


def _lines(shown: Shown) -> Iterator[str]:
    adapter = shown.adapter
    kinds = Counter(BY_NAME[part.kind].title for part in adapter.parts)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    values = sum(part.values for part in adapter.parts)
    yield f"{adapter.spec}: {len(adapter.parts)} modules ({counts}), {values:,} values"
    yield f"sha256 {adapter.store.sha256()}"
    yield from _table(adapter.parts)
    yield from remarks(adapter)
    if adapter.odd:
        yield f"of no adapter: {listed(adapter.odd)}"
    if shown.fit is not None:
        yield f"{shown.model}: {len(shown.fit.changes)} of {len(adapter.parts)} modules match"
        size = 2 * sum(change.part.values for change in shown.fit.active)
        yield f"applied in bfloat16 it takes {size:,} bytes"
        if shown.fit.unmatched:
            yield f"unmatched: {listed(shown.fit.unmatched)}"
    if shown.problem:
        yield f"{shown.model}: {shown.problem}"


def adapter_fields(shown: Shown) -> dict[str, Any]:
    """What was seen, for JSON."""
    adapter, fitted = shown.adapter, shown.fit
    told: dict[str, Any] = {
        "file": str(adapter.store.path),
        "sha256": adapter.store.sha256(),
        "parts": [asdict(part) for part in adapter.parts],
        "odd": adapter.odd,
        "assumed": assumption(adapter) or None,
        "remarks": list(remarks(adapter)),
    }
    if shown.model is not None:
        told["model"] = shown.model
        told["problem"] = shown.problem or None
        told["changes"] = [_change(each) for each in (fitted.changes if fitted else ())]
        told["unmatched"] = fitted.unmatched if fitted else ()
    return told


def as_text(shown: Sequence[Shown], *, as_json: bool) -> str:
    """All that was seen."""
    if as_json:
        return json.dumps([adapter_fields(each) for each in shown], indent=2)
    return "\n\n".join("\n".join(describe_adapter(each)) for each in shown)


def _table(parts: Sequence[AdapterPart]) -> Iterator[str]:
    """A row for each kind of module, its name below; those that differ in numbers share one."""
    counts = Counter((_name(part), _row(part)) for part in parts)
    rows = [COLUMNS, *((str(count), *row) for (_, row), count in counts.items())]
    head, *lines = columns(rows)
    yield head
    for line, (name, _) in zip(lines, counts, strict=True):
        yield line
        yield f"  {name}"


def _name(part: AdapterPart) -> str:
    return printable(re.sub(r"(?<=[._])\d+(?=[._])", "N", part.stem))


def _row(part: AdapterPart) -> tuple[str, ...]:
    alpha = "-" if part.alpha is None else f"{part.alpha:g} ({part.alpha_from})"
    sides = part.shape[:1] if part.is_bias else part.shape
    shape = "x".join(str(side) if side else "?" for side in sides)  # an OFT tells one side alone
    return BY_NAME[part.kind].title, shape, str(part.rank or "-"), alpha, f"{part.scale:g}"


def _change(change: Change) -> dict[str, Any]:
    return {
        "module": change.module,
        "rows": change.rows,
        "kind": change.part.kind,
        "strength": change.strength,
    }
