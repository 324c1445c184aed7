"""Prompts as a command line has them: text, files, standard input, and what lint says of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sakuga.api.codec import plain
from sakuga.checkpoint.catalog import LintProfile
from sakuga.errors import RequestError
from sakuga.prompt.document import MAX_BYTES, read
from sakuga.prompt.lint import Finding, lint

if TYPE_CHECKING:
    from sakuga.tokenizer.tokens import Tokenizer

# What is meant as a path, there or not: ./a, ../a, /a/b, ~/a, a.xml.
PROMPT_FILE = re.compile(r"[^\s<>]+\.(xml|txt|json)|(\.{0,2}|~)/[^\s<>]*", re.IGNORECASE)


def read_prompt(argument: str) -> str:
    """The prompt that an argument of `draw` names: text, an existing file, or - for stdin."""
    if argument == "-" or _is_file(argument):
        return read_text(argument)
    if PROMPT_FILE.fullmatch(argument):
        raise RequestError(
            "a prompt that looks like a path must be a file", repr(argument), "Check the path."
        )
    return argument


def _is_file(argument: str) -> bool:
    try:
        return Path(argument).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL: it is text
        return False


def read_text(name: str) -> str:
    """The text of a file or of - (stdin), read no further than a prompt may go."""
    enough = MAX_BYTES + 4  # still too long when the last character is cut off
    try:
        if name == "-":
            data = sys.stdin.buffer.read(enough)
        else:
            with open(name, "rb") as file:
                data = file.read(enough)
        errors = "ignore" if len(data) == enough else "strict"
        return data.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise RequestError(
            "a prompt must be UTF-8 text", f"{name}: byte {error.start} is none", "Convert it."
        ) from None
    except OSError as error:
        raise RequestError(
            "a prompt must be readable", f"{name}: {error.strerror}", "Check the path."
        ) from None


def findings(text: str, profile: LintProfile) -> tuple[Finding, ...]:
    """What lint says of a text. The tokenizer is opened only if the text may be too long."""
    path = profile.tokenizer
    return lint(
        text,
        limit=profile.limit,
        tokenizer=None if path is None else lambda: open_tokenizer(path),
        vocabulary=profile.vocabulary,
        system_xml=profile.system_xml,
        system_text=profile.system_text,
    )


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a file that a lint_profile names."""
    from sakuga.checkpoint.tokenizer import read_tokenizer
    from sakuga.tokenizer.tokens import Tokenizer

    return Tokenizer.open(read_tokenizer(path))


def show_findings(argument: str, text: str, profile: LintProfile, *, strict: bool) -> None:
    """Print findings before a drawing. Raises PromptRefused, and RequestError if strict."""
    read(text)  # what no tool should parse stops even a drawing that is not strict
    found = findings(text, profile)
    name = argument if _is_file(argument) else "prompt"
    for finding in found:
        print(line_of(name, finding), file=sys.stderr)
    serious = sum(finding.severity != "info" for finding in found)
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
