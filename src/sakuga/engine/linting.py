"""A prompt held against a model: what lint says of it, and how many tokens it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sakuga.checkpoint.catalog import LintProfile
from sakuga.checkpoint.tokenizer_file import FILES
from sakuga.prompt import canonical
from sakuga.prompt.document import read
from sakuga.prompt.lint import Finding, lint, rough_tokens

if TYPE_CHECKING:
    from sakuga.tokenizer.tokens import Tokenizer


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens of a prompt as Gemma reads it, of how many that were trained.

    `exact`: they were counted; else they are estimated, for the model's tokenizer is not here.
    """

    tokens: int
    limit: int
    exact: bool


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
        weighted=profile.weighting != "off",
        form="as xml" if profile.as_xml else "better as xml" if profile.xml else "as given",
    )


def length(text: str, profile: LintProfile, tokenizer: Tokenizer | None) -> Length:
    """How long a text is to Gemma, the model's system prompt included. Raises PromptRefused."""
    document = read(text)
    system = canonical.system_prompt(document, None, profile.system_xml, profile.system_text)
    lines = canonical.plain_lines(document, weighted=profile.weighting != "off")
    whole = system + "\n".join(line.text for line in lines)
    if tokenizer is None:
        return Length(1 + rough_tokens(whole), profile.limit, exact=False)
    return Length(len(tokenizer.encode(whole).offsets), profile.limit, exact=True)


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a file that a lint_profile names."""
    from sakuga.tokenizer.tokens import Tokenizer  # noqa: PLC0415  # short texts need none

    if path.name in FILES:
        return Tokenizer.open(path)
    from sakuga.checkpoint.tokenizer import read_tokenizer  # noqa: PLC0415  # reads weights

    return Tokenizer.open(read_tokenizer(path))
