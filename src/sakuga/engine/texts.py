"""The texts of a request as each encoder reads them: strings and token ids, before any network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from sakuga.api.marks import SIDES, Mark, marks_of
from sakuga.api.receipt import SentTexts, TokenCounts
from sakuga.api.resolved import Resolved
from sakuga.checkpoint.folder import Checkpoint
from sakuga.engine.readings import Reading, Weighing, read_tokens
from sakuga.errors import CorruptFile, RequestError, SpecMismatch
from sakuga.memory.stages import GEMMA, JINA
from sakuga.model.spec import (
    TEXT_ENCODER,
    TEXT_ENCODER_2,
    DrawingSpec,
    GemmaSpec,
    JinaSpec,
    ModelSpec,
)
from sakuga.printable import cut
from sakuga.prompt.canonical import EncoderText, Systems, encoder_texts
from sakuga.prompt.regions import Region, placed, regions_of
from sakuga.prompt.structured import as_xml
from sakuga.prompt.tags import Spelling, spelling_of
from sakuga.tokenizer.tokens import Tokenizer, Tokens

MOST_TIMES = 8  # the trained length
BELONGS = "Copy the tokenizer that belongs to this encoder into its folder."


@dataclass(frozen=True, slots=True)
class TokenizedTexts:
    """The texts of a request as they are sent, how long they are, and their token ids.

    `readings` by stage: that of the prompt, then that of the negative if the guidance looks at
    what that encoder makes of it. `regions`: the places of characters, and their tokens.
    """

    sent: SentTexts
    counts: TokenCounts
    readings: dict[str, tuple[Reading, ...]]
    regions: tuple[Region, ...] = ()

    @property
    def lengths(self) -> dict[str, tuple[int, ...]]:
        """Tokens of each text that is read, by stage."""
        return {
            stage: tuple(len(text) for one in readings for text in one.texts)
            for stage, readings in self.readings.items()
        }

    @property
    def captions(self) -> tuple[int, ...]:
        """Tokens of each text as the transformer takes it."""
        return tuple(one.parts.length for one in self.readings[GEMMA.name])

    @property
    def apart(self) -> bool:
        """Whether the prompt is encoded in parts."""
        return len(self.readings[GEMMA.name][0].parts.texts) > 1


def tokenize(
    request: Resolved,
    spec: ModelSpec,
    gemma: Tokenizer,
    jina: Tokenizer | None,
    spelling: Spelling | None = None,
) -> TokenizedTexts:
    """Both texts of a request as each encoder will see them. Raises PromptRefused.

    `jina`: None for a model without. `spelling`: how a model that lists its words writes them,
    for it obeys other spellings less.
    """
    sent = _sent(request, spec.drawing, spelling)
    if jina is None:
        sent = replace(sent, jina="", negative_jina="")
    sides = tuple(
        Side(gemma.encode(for_gemma), jina.encode(for_jina) if jina else Tokens((), ()),
             marks_of(sent.marks, side), len(for_gemma) - len(for_jina))
        for side, for_gemma, for_jina in (
            ("prompt", sent.gemma, sent.jina),
            ("negative", sent.negative_gemma, sent.negative_jina),
        )
    )  # fmt: skip
    positive, negative = (replace(each, gemma=each.gemma[: request.max_tokens]) for each in sides)
    trained = spec.gemma.trained_tokens
    counts = TokenCounts(
        gemma=len(positive.gemma),
        jina=len(positive.jina),
        negative_gemma=len(negative.gemma),
        negative_jina=len(negative.jina),
        trained=trained,
        past=_word_at(sent.gemma, sides[0].gemma, trained),
    )
    _check_length(request, counts)
    looked = (positive, negative) if request.guided else (positive,)
    how = Weighing(request.weighting, spec.gemma.pad_token_id)
    readings = {GEMMA.name: tuple(read_tokens(side.gemma, side.marks, how) for side in looked)}
    if jina is not None:
        pooled = looked[:1] if request.uncond == "keep-pooled" else looked
        readings[JINA.name] = tuple(side.pooled(how) for side in pooled)
    return TokenizedTexts(sent, counts, readings, _regions(request, sent.gemma, positive.gemma))


def _asked(request: Resolved) -> str:
    """The prompt as it is to be sent: as XML, and with words for places, where that was asked."""
    prompt = as_xml(request.prompt) if request.as_xml else request.prompt
    return prompt if request.regions is None or request.verbatim else placed(prompt)


def _regions(request: Resolved, sent: str, tokens: Tokens) -> tuple[Region, ...]:
    """Where characters should stand, if that was asked, and which tokens tell of them."""
    if request.regions is None:
        return ()
    found = []
    for one in regions_of(_asked(request), sent):
        inside = [
            place for place, (start, end) in enumerate(tokens.offsets)
            if start < one.end and end > one.begin
        ]  # fmt: skip
        if inside:
            found.append(Region(one.box, inside[0], inside[-1] + 1))
    if not found:
        raise RequestError(
            "regions are of characters with a place", "none in the prompt",
            "Write <position>left</position> or <character_1 box=\"0,0,0.5,1\">.",
        )  # fmt: skip
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Side:
    """The prompt or the negative in tokens. `lead`: characters that Gemma alone reads before it."""

    gemma: Tokens
    jina: Tokens
    marks: tuple[Mark, ...]
    lead: int

    def pooled(self, how: Weighing) -> Reading:
        """What Jina reads; an empty text has no counterpart among its vectors."""
        moved = (
            replace(one, start=one.start - self.lead, end=one.end - self.lead) for one in self.marks
        )
        kind = "off" if how.kind == "empty" else how.kind
        return read_tokens(self.jina, tuple(moved), replace(how, kind=kind))


def _check_length(request: Resolved, counts: TokenCounts) -> None:
    """Raise RequestError for a text so long that it would hardly end, unless that was asked."""
    negative = (counts.negative_gemma, counts.negative_jina) if request.guided else ()
    longest = max(counts.gemma, counts.jina, *negative)
    if longest > MOST_TIMES * counts.trained and not request.long:
        raise RequestError(
            f"a text is at most {MOST_TIMES} times as long as texts in training",
            f"{longest:,} tokens, where {counts.trained:,} were trained",
            "Shorten it; --long draws it all the same, but attention takes the square of that: "
            f"{(longest / counts.trained) ** 2:,.0f} times as long",
        )


def _sent(request: Resolved, drawing: DrawingSpec, spelling: Spelling | None) -> SentTexts:
    """The strings that each encoder reads of a prompt and its negative, and what marks them."""
    if request.sent:
        gemma, jina, negative_gemma, negative_jina, *told = request.sent
        return SentTexts(gemma, jina, negative_gemma, negative_jina, tuple(told))
    texts = encoder_texts(
        _asked(request),
        request.negative,
        systems=Systems(drawing.system_xml, drawing.system_text, drawing.system_negative),
        system=request.system,
        verbatim=request.verbatim,
        spelling=spelling,
        mode=request.text_mode,
        weighted=request.weighting != "off",
    )
    marks = (
        str(mark)
        for side, text in zip(SIDES, (texts.positive, texts.negative), strict=True)
        for mark in _marks(side, text, request.encoding == "per-character")
    )
    return SentTexts(
        texts.positive.gemma, texts.positive.jina, texts.negative.gemma, texts.negative.jina,
        tuple(marks),
    )  # fmt: skip


def _marks(side: str, text: EncoderText, apart: bool) -> Iterator[Mark]:
    yield from (Mark(side, one.start, one.end, one.weight) for one in text.emphases)
    if apart and len(text.parts) > 1:
        yield from (Mark(side, start, end) for start, end in text.parts)


@dataclass(frozen=True, slots=True)
class Tokenizers:
    """The tokenizers of a model's encoders; `notes`: what shows that one is another encoder's.

    `jina`: None for a model without.
    `spelling`: how tags are written for the model, if it lists the words it knows.
    """

    spec: ModelSpec
    gemma: Tokenizer
    jina: Tokenizer | None
    notes: tuple[str, ...]
    spelling: Spelling | None = None

    @classmethod
    def open(cls, checkpoint: Checkpoint) -> Tokenizers:
        """Open both. Raises ModelNotFound, CorruptFile, SpecMismatch where one cannot be used."""
        spec, notes = checkpoint.spec, list[str]()
        kinds = (TEXT_ENCODER, spec.gemma), (TEXT_ENCODER_2, spec.jina)
        opened = dict[str, Tokenizer]()
        for kind, encoder in kinds:
            assert kind.tokenizer is not None
            if encoder is None:
                continue
            tokenizer = Tokenizer.open(checkpoint.tokenizer(kind.tokenizer))
            if why := check_tokenizer(tokenizer, encoder):
                notes.append(f"The {kind.tokenizer} seems to be another encoder's: {why}.")
            opened[kind.name] = tokenizer
        words = None
        with suppress(CorruptFile):  # doctor tells; a drawing needs no list of words
            words = checkpoint.vocabulary()
        spelling = None if words is None else spelling_of(words)
        gemma, jina = opened[TEXT_ENCODER.name], opened.get(TEXT_ENCODER_2.name)
        return cls(spec, gemma, jina, tuple(notes), spelling)

    def read(self, request: Resolved) -> TokenizedTexts:
        """Both texts of a request as each encoder will see them. Raises PromptRefused."""
        return tokenize(request, self.spec, self.gemma, self.jina, self.spelling)


def check_tokenizer(tokenizer: Tokenizer, spec: GemmaSpec | JinaSpec) -> str | None:
    """Whether a tokenizer is the one an encoder was trained with: None, or what shows it is not.

    It looks at the special tokens. Raises SpecMismatch where the encoder cannot read its ids at
    all, and as `Tokenizer.encode`.
    """
    ids, size = tokenizer.encode("").ids, tokenizer.size  # a fifth of a second for Gemma's words
    if not 0 < size <= spec.vocab_size:
        raise SpecMismatch(
            "each token has a row in its encoder's table",
            f"{size:,} tokens for {spec.vocab_size:,} rows", BELONGS,
        )  # fmt: skip
    gemma = isinstance(spec, GemmaSpec)
    ends = (spec.bos_token_id,) if gemma else (spec.bos_token_id, spec.eos_token_id)
    if ids != ends:
        return f"an empty text is {list(ids)}, where the encoder has {list(ends)}"
    pad = tokenizer.id_of("<pad>")
    if pad != spec.pad_token_id:
        return f"<pad> is {pad}, where the encoder has {spec.pad_token_id}"
    return None


def _word_at(text: str, tokens: Tokens, limit: int) -> str | None:
    """The word of `text` that holds the first token past `limit`, if there is one."""
    if len(tokens.ids) <= limit:
        return None
    start, _ = tokens.offsets[limit]
    start -= len(re.split(r"\s", text[:start])[-1])
    return cut(re.split(r"\s", text[start:].lstrip(), maxsplit=1)[0])
