"""The error for a file that contradicts itself, and values of it made fit for a message."""

from __future__ import annotations

from pathlib import Path

from sakuga.errors import CorruptFile

AGAIN = "Download or convert the file again"
SAVE_AGAIN = "Download the file again, or save it again with torch.save"


def corrupt(file: Path, rule: str, got: str, fix: str = AGAIN) -> CorruptFile:
    """The error for a file that breaks a rule, with what it holds instead and what helps."""
    return CorruptFile(rule, f"{got} in {file}", fix)


def short(value: object) -> str:
    """A value from a file, escaped and short enough for a message."""
    if isinstance(value, str):
        value = value[:80]
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
