"""What the page and scripts ask of prompts: lint, documents, conversion, tags and words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from threading import Lock
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AfterValidator
from pydantic import Field as Limits

from sakuga.api.engine_spec import EMBEDDED, EngineSpec
from sakuga.checkpoint.catalog import LintProfile, lint_profile
from sakuga.engine.linting import Length, findings, length, open_tokenizer
from sakuga.errors import RequestError
from sakuga.prompt.assign import UNSURE
from sakuga.prompt.canonical import canonical
from sakuga.prompt.completion import LONGEST, MOST, Completion, by_slot, complete
from sakuga.prompt.document import Block, Document, Field, read, write
from sakuga.prompt.flattened import Joint, flattened
from sakuga.prompt.lint import Finding, Severity
from sakuga.prompt.lint import fix as mend
from sakuga.prompt.names import CHARACTER_FIELDS, GENERAL_FIELDS
from sakuga.prompt.nearest import Vocabulary
from sakuga.prompt.slots import FIELDS
from sakuga.prompt.structured import structured
from sakuga.tokenizer.tokens import Tokenizer

_LONE = re.compile("[\ud800-\udfff]")


def _sound(text: str) -> str:
    """A text that can be answered with: JSON may hold halves of characters, UTF-8 may not."""
    return _LONE.sub("\ufffd", text)


Text = Annotated[str, AfterValidator(_sound)]


@dataclass(frozen=True)
class LintAsked:
    """A prompt to lint. `as_xml`: whether flat tags are drawn as XML; None: by the model."""

    prompt: Text
    as_xml: bool | None = None


@dataclass(frozen=True)
class LintEdit:
    """Replace the characters (code points) from start to end of the prompt."""

    start: int
    end: int
    replacement: str


@dataclass(frozen=True)
class LintFinding:
    """One remark; lines and columns count characters (code points) from 1, the rest from 0."""

    start: int
    end: int
    rule: str
    severity: Severity
    line: int
    column: int
    end_line: int
    end_column: int
    reason: str
    fix: str
    edits: list[LintEdit]


@dataclass(frozen=True)
class Linted:
    """What there is to say of a prompt. `mended`: with every fix that keeps the meaning."""

    findings: list[LintFinding]
    length: Length | None
    mended: str


@dataclass(frozen=True)
class FieldForm:
    """One field of a card; `name` is empty for text that stands in none.

    `start`, `end`: where it stands in the prompt, in characters (code points); of what is read.
    """

    name: Text
    text: Text
    nested: bool = False
    weight: Annotated[float, Limits(ge=0, le=100)] = 1.0
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class BlockForm:
    """One card: a character, the picture's tags, a caption, or (nameless) plain text."""

    name: Text
    fields: list[FieldForm]


@dataclass(frozen=True)
class DocumentAsked:
    """A prompt to read, or blocks to write; one of the two."""

    prompt: Text | None = None
    blocks: list[BlockForm] = field(default_factory=list)
    system: Text = ""


@dataclass(frozen=True)
class DocumentForm:
    """A prompt as text and as cards. `structured`: it has any."""

    prompt: str
    kind: str
    structured: bool
    system: str
    blocks: list[BlockForm]


@dataclass(frozen=True)
class ConvertAsked:
    """A prompt to write in the other form, or the one that `to` names."""

    prompt: Text
    to: Literal["xml", "flat"] | None = None
    spaces: bool = False
    joint: Joint = "comma"


@dataclass(frozen=True)
class Converted:
    """The prompt in its new form, and what was not sure on the way."""

    prompt: str
    findings: list[LintFinding]


@dataclass(frozen=True)
class Tags:
    """Tags that complete what is being typed, best first."""

    tags: list[Completion]


@dataclass(frozen=True)
class TaughtWords:
    """What the model was taught, by what it describes; None if it lists nothing. Field names."""

    words: dict[str, list[str]] | None
    character_fields: list[str]
    general_fields: list[str]


class Prompts:
    """What is known of prompts for one model, opened when first asked for."""

    def __init__(self, spec: EngineSpec) -> None:
        self.profile = lint_profile(spec.source or EMBEDDED)
        self._once = Lock()

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """The words of the model; None if it lists none."""
        words = self.profile.vocabulary
        return None if words is None else Vocabulary(words)

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The model's own; None without its files."""
        path = self.profile.tokenizer
        return None if path is None else open_tokenizer(path)

    def lint(self, asked: LintAsked) -> Linted:
        """What lint says, how long it is, and the prompt mended. Never refuses a text."""
        found = _forms(asked.prompt, findings(asked.prompt, self._drawn(asked.as_xml)))
        if any(one.rule in {"declaration", "too-large"} for one in found):
            return Linted(found, None, asked.prompt)
        with self._once:
            tokenizer = self.tokenizer
        return Linted(found, length(asked.prompt, self.profile, tokenizer), mend(asked.prompt))

    def _drawn(self, as_xml: bool | None) -> LintProfile:
        """What holds of prompts that are drawn as XML, or not; by the model for None."""
        return self.profile if as_xml is None else replace(self.profile, as_xml=as_xml)

    def convert(self, asked: ConvertAsked) -> Converted:
        """The prompt in its other form. Raises PromptRefused."""
        document = read(asked.prompt)
        if asked.to == "flat" or (asked.to is None and document.structured):
            return Converted(flattened(document, spaces=asked.spaces, joint=asked.joint), [])
        found = findings(asked.prompt, self._drawn(True))
        unsure = _forms(asked.prompt, (one for one in found if one.rule in UNSURE))
        return Converted(canonical(structured(document).document), unsure)


def as_document(asked: DocumentAsked) -> DocumentForm:
    """A prompt read, or cards written. Raises RequestError for names that no tag can have."""
    if asked.prompt is not None:
        return _document(read(asked.prompt), asked.prompt)
    blocks = tuple(
        Block(
            one.name,
            tuple(Field(part.name, part.text, part.nested, part.weight) for part in one.fields),
        )
        for one in asked.blocks
    )
    given = Document("xml" if any(one.name for one in blocks) else "text", blocks, asked.system)
    whole = all(one.name or one.fields for one in blocks)  # plain text is one nameless field
    text = write(given) if whole else ""
    found = read(text)
    if not whole or _names(found) != _names(given):
        raise RequestError(
            "cards have names that tags can have, and text in every field",
            ", ".join(one.name or "(nameless)" for one in blocks)[:200],
            "Name them character_1, general_tags, caption; leave empty fields out.",
        )
    return _document(found, text)


def router(spec: EngineSpec) -> APIRouter:
    """The routes about prompts for one model."""
    routes = APIRouter(prefix="/sakuga/v1", tags=["prompts"])
    prompts = Prompts(spec)

    @routes.post("/lint")
    def lint(asked: LintAsked) -> Linted:
        """Say what a prompt gets wrong, where, how to mend it, and how many tokens it is."""
        return prompts.lint(asked)

    @routes.post("/document")
    def document(asked: DocumentAsked) -> DocumentForm:
        """Read a prompt as cards, or write cards as a prompt."""
        return as_document(asked)

    @routes.post("/convert-prompt")
    def convert(asked: ConvertAsked) -> Converted:
        """Write flat tags as XML, and XML as flat tags."""
        return prompts.convert(asked)

    @routes.get("/tags")
    def tags(
        q: Annotated[str, Query(max_length=LONGEST)] = "",
        field: Annotated[str, Query(max_length=LONGEST)] = "",
        limit: Annotated[int, Query(ge=1, le=MOST)] = 12,
    ) -> Tags:
        """Complete a tag, with how often it is used, what it describes and where it belongs."""
        return Tags(list(complete(q, field=field, vocabulary=prompts.vocabulary, limit=limit)))

    @routes.get("/words")
    def words() -> TaughtWords:
        """List what the model was taught, and the fields of cards."""
        known = prompts.vocabulary
        listed = None if known is None else by_slot(known, FIELDS)
        return TaughtWords(listed, list(CHARACTER_FIELDS), list(GENERAL_FIELDS))

    return routes


def _forms(text: str, found: Iterable[Finding]) -> list[LintFinding]:
    lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def form(one: Finding) -> LintFinding:
        start = lines[one.line - 1] + one.column - 1
        end = lines[one.end_line - 1] + one.end_column - 1
        told: dict[str, Any] = asdict(one)
        edits = [LintEdit(**edit) for edit in told.pop("edits")]
        return LintFinding(start, end, edits=edits, **told)

    return [form(one) for one in found]


def _document(document: Document, prompt: str) -> DocumentForm:
    blocks = [BlockForm(one.name, [_field(part) for part in one.fields]) for one in document.blocks]
    return DocumentForm(prompt, document.kind, document.structured, document.system, blocks)


def _field(part: Field) -> FieldForm:
    span = part.span
    return FieldForm(part.name, part.text, part.nested, part.weight, span.start, span.end)


def _names(document: Document) -> list[tuple[str, list[str]]]:
    return [(one.name, [part.name for part in one.fields]) for one in document.blocks]
