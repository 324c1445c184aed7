"""The rules of the linter, how much each matters, and what one finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from sakuga.prompt.nodes import Span

Severity = Literal["error", "warning", "info"]
Form = Literal["as given", "better as xml", "as xml"]
"""How a flat prompt is drawn; `better as xml`: as given, by a model that was trained on XML."""

RULES: Mapping[str, Severity] = MappingProxyType(
    {
        "declaration": "error",
        "too-large": "error",
        "too-deep": "error",
        "slot-contradicted": "error",
        "not-well-formed": "warning",
        "too-many-characters": "warning",
        "slot-blurred": "warning",
        "duplicate-number": "warning",
        "count-mismatch": "warning",
        "too-long": "warning",
        "around-prompt": "warning",
        "outside-text": "warning",
        "wrapper": "warning",
        "escaped-tags": "warning",
        "zero-width": "warning",
        "inner-caption": "warning",
        "negative": "warning",
        "settings-text": "warning",
        "lora-tag": "warning",
        "unheeded-weight": "warning",
        "length-estimated": "info",
        "unnumbered-character": "info",
        "empty-element": "info",
        "empty-tag": "info",
        "repeated-field": "info",
        "renamed-field": "info",
        "unknown-field": "info",
        "unknown-block": "info",
        "misplaced-field": "info",
        "misplaced-tag": "info",
        "attribute": "info",
        "loose-text": "info",
        "bare-markup": "info",
        "weighted-tag": "info",
        "other-syntax": "info",
        "own-system-prompt": "info",
        "flat-prompt": "info",
        "unsure-owner": "info",
        "unsure-tag": "info",
        "other-name": "info",
        "unknown-word": "info",
    }
)
"""Every rule and how much it matters."""


OF_READING = frozenset(
    {
        "not-well-formed", "duplicate-number", "around-prompt", "wrapper", "escaped-tags",
        "zero-width", "inner-caption", "negative", "settings-text", "lora-tag",
        "unnumbered-character", "empty-element", "empty-tag", "repeated-field", "renamed-field",
    }
)  # fmt: skip
"""The rules that say how a text is read, not what it says."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace the characters [start, end) of the source."""

    start: int
    end: int
    replacement: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule found. `edits` make the fix where it cannot change the meaning."""

    rule: str
    span: Span
    reason: str
    fix: str
    edits: tuple[Edit, ...] = ()
