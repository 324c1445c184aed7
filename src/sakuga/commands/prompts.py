"""Prompts as a command line has them: text, files, standard input, and what lint says of them."""

from __future__ import annotations

import codecs
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sakuga.api.codec import plain
from sakuga.checkpoint.catalog import LintProfile
from sakuga.commands.streams import say
from sakuga.engine.linting import findings
from sakuga.errors import RequestError
from sakuga.prompt.document import MAX_BYTES, read
from sakuga.prompt.lint import Finding
from sakuga.prompt.rules import OF_READING

# What is meant as a path, there or not: ./a, ../a, /a/b, ~/a, a.xml.
PROMPT_FILE = re.compile(r"[^\s<>]+\.(xml|txt|json)|(\.{0,2}|~)/[^\s<>]*", re.IGNORECASE)
PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")  # and ftyp behind a length


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text, and what it is called in messages: its file, - for standard input, or prompt."""

    name: str
    text: str

    @property
    def file(self) -> Path | None:
        """The file it is from; None for what was typed or piped."""
        return Path(self.name) if _is_there(self.name) and Path(self.name).is_file() else None


def read_prompt(argument: str) -> Prompt:
    """The prompt that an argument names: text, an existing file or pipe, or - for stdin."""
    if argument == "-" or _is_there(argument):
        return Prompt(argument, read_text(argument))
    if PROMPT_FILE.fullmatch(argument):
        raise RequestError(
            "a prompt that looks like a path must be a readable file",
            repr(argument),
            "Check the path.",
        )
    return Prompt("prompt", argument)


def _is_there(argument: str) -> bool:
    """Whether it can be opened and read: a file, or a pipe such as /dev/fd/63."""
    try:
        path = Path(argument)
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):  # too long for a path, or with a NUL: it is text
        return False


def read_text(name: str) -> str:
    """The text of a file or of - (stdin), read no further than a prompt may go.

    Raises RequestError for what is no text, such as a picture.
    """
    enough = MAX_BYTES + 8  # still too much without a byte order mark and half a character
    try:
        if name == "-":
            data = sys.stdin.buffer.read(enough)
        else:
            with open(name, "rb") as file:
                data = file.read(enough)
    except OSError as error:
        raise RequestError(
            "a prompt must be readable", f"{name}: {error.strerror}", "Check the path."
        ) from None
    cut = len(data) == enough
    try:
        if cut:  # so the last character may be half of one, but of that one alone
            return codecs.getincrementaldecoder("utf-8-sig")().decode(data)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _no_text(name, data, error.start) from None


def _no_text(name: str, data: bytes, byte: int) -> RequestError:
    """The error for bytes that are no text, by what they are."""
    if data.startswith(PICTURES) or data[4:8] == b"ftyp":
        fix = f"Draw it again: `sakuga draw --from {quoted_path(name)}`."
        return RequestError("a prompt must be UTF-8 text", f"{name}, a picture", fix)
    return RequestError(
        "a prompt must be UTF-8 text", f"{name}: byte {byte} is none",
        "Convert it, or give the prompt itself.",
    )  # fmt: skip


def quoted_path(name: str) -> str:
    """A file's name as a shell takes it."""
    import shlex  # only messages need it

    return shlex.quote(name)


def show_findings(
    prompt: Prompt,
    profile: LintProfile,
    *,
    strict: bool,
    verbatim: bool = False,
) -> None:
    """Print findings before a drawing: one line for each rule that is broken, notes as a count.

    verbatim: nothing is left out of the prompt or read as something else, so nothing is said of
    that. Raises PromptRefused, and RequestError if strict.
    """
    read(prompt.text)  # what no tool should parse stops even a drawing that is not strict
    by_rule: dict[str, list[Finding]] = {}
    for finding in findings(prompt.text, profile):
        if verbatim and finding.rule in OF_READING:
            continue
        by_rule.setdefault(finding.rule, []).append(finding)
    notes = 0
    for first, *others in by_rule.values():
        if first.severity == "info":
            notes += 1 + len(others)
            continue
        more = f" {len(others)} more of this kind." if others else ""
        say(line_of(prompt.name, first) + more, err=True)
    if notes:
        place = quoted_path(prompt.name) if prompt.file else "PROMPT"
        say(f"{notes} note{'s' * (notes != 1)}; `sakuga lint {place}` tells.", err=True)
    serious = sum(len(one) for one in by_rule.values() if one[0].severity != "info")
    if strict and serious:
        raise RequestError(
            "with --strict a prompt must have no errors and no warnings",
            f"{serious}",
            "Mend it, see above.",
        )


def line_of(name: str, finding: Finding) -> str:
    """A finding as compilers print it."""
    place = f"{name}:{finding.line}:{finding.column}"
    fix = finding.fix.removesuffix(".")
    return f"{place}: {finding.severity} [{finding.rule}] {finding.reason}. {fix}."


def plain_finding(finding: Finding) -> dict[str, Any]:
    """A finding for JSON, without the edits that --fix would apply."""
    form: dict[str, Any] = plain(finding)
    del form["edits"]
    return form
